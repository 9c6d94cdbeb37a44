"""Decodes and checks the body of a request to create a run."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from oz_agent_worker.contract import MAX_ARGUMENT_BYTES
from oz_agent_worker.controlplane.problems import Code, ProblemError, invalid, without_nul
from oz_agent_worker.protocol.assignment import compact_json
from oz_agent_worker.protocol.frames import MAX_FRAME_BYTES

__all__ = ["CONFIG_FIELDS", "REQUEST_FIELDS", "RunConfig", "RunRequest", "decode_run_request"]

#: Most bytes of prompt and configuration: they must fit a frame with the rest of an assignment.
_LARGEST_TASK: Final = MAX_FRAME_BYTES - 64 * 1024
_LARGEST_METADATA: Final = 20
_LARGEST_VALUE: Final = 256
_METADATA_KEY: Final = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_LONGEST_TITLE: Final = 80

_Text = Annotated[str, Meta(max_length=1024)]
_Name = Annotated[str, Meta(max_length=255)]
_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _Options(Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown members are refused: a misspelt one would be ignored silently."""


class HarnessChoice(_Options, frozen=True):
    """The program that does the work; the agent runtime knows which ones exist."""

    type: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] | None = None
    model_id: _Text | None = None
    reasoning_level: _Text | None = None


class HarnessAuthSecrets(_Options, frozen=True):
    """Names of secrets, not their values."""

    claude_auth_secret_name: _Text | None = None
    codex_auth_secret_name: _Text | None = None


class AwsProvider(_Options, frozen=True):
    """AWS Bedrock as the inference provider."""

    disabled: bool | None = None
    role_arn: _Text | None = None
    region: _Text | None = None


class InferenceProviders(_Options, frozen=True):
    """The services that run the model."""

    aws: AwsProvider | None = None


class SessionSharing(_Options, frozen=True):
    """Access of other people to the session."""

    public_access: Literal["VIEWER", "EDITOR"] | None = None


class RunConfig(_Options, frozen=True):
    """``config``: the members of the public API, and further ones of the assignment's snapshot."""

    base_prompt: str | None = None
    computer_use_enabled: bool | None = None
    credential_strategy: Literal["CREATOR", "EXECUTOR"] | None = None
    environment_id: _Text | None = None
    harness: HarnessChoice | None = None
    harness_auth_secrets: HarnessAuthSecrets | None = None
    idle_timeout_minutes: _Count | None = None
    inference_providers: InferenceProviders | None = None
    mcp_servers: dict[str, Raw] | None = None
    memory_stores: list[Raw] | None = None
    model_id: _Text | None = None
    name: _Text | None = None
    profile_id: _Text | None = None
    runner_id: _Text | None = None
    session_sharing: SessionSharing | None = None
    skill_spec: _Text | None = None
    skills: list[_Text] | None = None
    snapshot_disabled: bool | None = None
    snapshot_script_timeout_secs: _Count | None = None
    snapshot_upload_timeout_secs: _Count | None = None
    worker_host: _Name | None = None


class RunRequest(_Options, frozen=True):
    """The body.

    ``team`` is accepted and has no effect: every key sees every run. ``safe_to_retry`` is not a
    public member: the run may be started again if its worker is lost.
    """

    agent_identity_uid: str | None = None
    attachments: list[Raw] | None = None
    config: RunConfig | None = None
    conversation_id: _Text | None = None
    interactive: bool | None = None
    metadata: dict[str, str] | None = None
    mode: Literal["normal", "plan", "orchestrate"] | None = None
    on_behalf_of: str | None = None
    parent_run_id: _Name | None = None
    prompt: str | None = None
    safe_to_retry: bool | None = None
    skill: _Text | None = None
    team: bool | None = None
    title: Annotated[str, Meta(max_length=500)] | None = None

    @property
    def skill_spec(self) -> str | None:
        """The skill that the run starts with."""
        config = self.config or RunConfig()
        return self.skill or config.skill_spec or next(iter(config.skills or ()), None)

    @property
    def worker_host(self) -> str | None:
        """The worker ID that the run names."""
        return ((self.config.worker_host if self.config else None) or "").strip() or None

    @property
    def shown_title(self) -> str:
        """The given title, else the first line of the prompt, else the skill."""
        line = next((line.strip() for line in (self.prompt or "").splitlines() if line.strip()), "")
        short = line if len(line) <= _LONGEST_TITLE else line[: _LONGEST_TITLE - 1] + "…"
        return (self.title or "").strip() or short or self.skill_spec or "Untitled run"


#: The fields of ``RunRequest`` for docs/api.md: JSON type and meaning.
REQUEST_FIELDS: Final = {
    "prompt": ("string", "What the agent must do. Required, unless a skill is given."),
    "title": ("string, 500 characters", "Title in lists; by default the first line of the prompt."),
    "config": ("object", "See below."),
    "skill": ("string", "The skill that the run starts with."),
    "metadata": (
        "map of strings",
        "Up to 20 pairs. Keys: 1 to 64 of `a-z A-Z 0-9 . _ -`. Values: 256 bytes at most.",
    ),
    "parent_run_id": ("string", "An existing run."),
    "conversation_id": ("string", "Stored, shown, and passed on to the worker."),
    "safe_to_retry": (
        "boolean",
        "It may start again from the beginning if its worker is lost. Not in the public API.",
    ),
    "team": ("boolean", "Accepted, without effect: every key sees every run."),
    "mode": ("`normal`", "`plan` and `orchestrate` are refused (422)."),
    "interactive": ("boolean", "`true` is refused (422)."),
    "attachments": ("list", "Refused (422) unless empty."),
    "agent_identity_uid": ("string", "Refused (422)."),
    "on_behalf_of": ("string", "Refused (422)."),
}
#: The fields of ``RunConfig`` for docs/api.md: JSON type and meaning.
CONFIG_FIELDS: Final = {
    "worker_host": ("string", "The worker ID that the run must go to; by default any worker."),
    "harness": (
        "`{type, model_id, reasoning_level}`",
        "The program that works, such as `shell`.",
    ),
    "model_id": ("string", "The model."),
    "name": ("string", "A name by which lists can be filtered."),
    "base_prompt": ("string", "Passed on to the agent."),
    "mcp_servers": ("map of objects", "MCP servers, by name."),
    "profile_id": ("string", "Passed on to the agent."),
    "environment_id": ("string", "Passed on to the agent; there are no environments here."),
    "skill_spec": ("string", "The skill that the run starts with."),
    "skills": ("list of strings", "The run starts with the first one if no other is named."),
    "computer_use_enabled": ("boolean", "Passed on to the agent."),
    "idle_timeout_minutes": ("number, 0 or more", "How long the agent stays after its task."),
    "session_sharing": ("`{public_access}`", "`VIEWER` or `EDITOR`."),
    "inference_providers": ("`{aws: {disabled, role_arn, region}}`", "Passed on to the agent."),
    "harness_auth_secrets": (
        "`{claude_auth_secret_name, codex_auth_secret_name}`",
        "Names of secrets, not their values.",
    ),
    "snapshot_disabled": ("boolean", "Passed on to the agent."),
    "snapshot_upload_timeout_secs": ("number, 0 or more", "Passed on to the agent."),
    "snapshot_script_timeout_secs": ("number, 0 or more", "Passed on to the agent."),
    "credential_strategy": ("`CREATOR`, `EXECUTOR`", "Stored and shown."),
    "runner_id": ("string", "Stored and shown."),
    "memory_stores": ("list", "Refused (422) unless empty."),
}

_decoder = msgspec.json.Decoder(RunRequest)
_server_decoder = msgspec.json.Decoder(dict[str, Any])
_PATH: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)


def decode_run_request(body: bytes) -> RunRequest:
    """Decode and check a body. Raises ProblemError; its detail begins with the path of the field."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        match = _PATH.match(str(error))
        raise invalid(f"{match['path']}: {match['what']}" if match else str(error)) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise invalid("The body is not valid JSON.") from error
    _check(request)
    return request


def _check(request: RunRequest) -> None:
    """Check what the types cannot express. Raises ProblemError."""
    asked: dict[str, Any] = {
        "agent_identity_uid": request.agent_identity_uid,
        "attachments": request.attachments,
        "config.memory_stores": request.config and request.config.memory_stores,
        "interactive": request.interactive,
        "mode": request.mode != "normal" and request.mode,
        "on_behalf_of": request.on_behalf_of,
    }
    for path in (path for path, value in asked.items() if value):
        detail = f"{path}: this control plane does not offer it"
        raise ProblemError(422, Code.OPERATION_NOT_SUPPORTED, detail)
    if not (request.prompt or "").strip() and request.skill_spec is None:
        raise invalid("prompt: required unless a skill is given (skill, config.skill_spec or config.skills)")
    for path, text in _texts(request, ""):
        without_nul(path, text)
    size = len(msgspec.json.encode((request.prompt, request.title, request.config)))
    if size > _LARGEST_TASK:
        detail = f"prompt: with the configuration {size} bytes of JSON, and {_LARGEST_TASK} fit an assignment"
        raise ProblemError(413, Code.INVALID_REQUEST, detail)
    if (request.worker_host or "").startswith("warp"):
        raise invalid(
            "config.worker_host: worker IDs that begin with warp are reserved; none can connect here"
        )
    _check_servers((request.config and request.config.mcp_servers) or {})
    _check_metadata(request.metadata or {})


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a request, with its path; what is kept as raw JSON and the metadata are left out."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _texts(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)


def _check_servers(servers: dict[str, Raw]) -> None:
    """Check that the agent can read each server, and that all fit its command line. Raises ProblemError."""
    for name, server in servers.items():
        try:
            _server_decoder.decode(server)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise invalid(f"config.mcp_servers.{name[:64]}: {what}") from error
    size = len(compact_json(servers).encode("utf-8", "surrogatepass"))
    if size >= MAX_ARGUMENT_BYTES:
        limit = f"{MAX_ARGUMENT_BYTES - 1} fit one argument of the agent's command line"
        detail = f"config.mcp_servers: {size} bytes of JSON, and {limit}"
        raise ProblemError(413, Code.INVALID_REQUEST, detail)


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > _LARGEST_METADATA:
        raise invalid(f"metadata: has {len(metadata)} keys, and {_LARGEST_METADATA} are allowed")
    for key, value in metadata.items():
        if not _METADATA_KEY.fullmatch(key):
            raise invalid("metadata: a key is 1 to 64 of the characters a-z, A-Z, 0-9, dot, dash, underscore")
        if len(value.encode()) > _LARGEST_VALUE or "\0" in value:
            raise invalid(f"metadata.{key}: longer than {_LARGEST_VALUE} bytes, or contains a NUL character")
