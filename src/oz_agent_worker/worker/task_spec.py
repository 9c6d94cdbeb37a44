"""What a backend runs: the agent's command line, environment and images.

A ``TaskSpec`` is the same for every backend. The order of the arguments and the
precedence of the variables are the public protocol's (wire protocol, "The agent's
command line" and "The agent's environment").
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.contract import exec_problem
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import (
    AGENT_MOUNT_PATH,
    Assignment,
    AssignmentError,
    InstanceShape,
    Sidecar,
    TaskTooLargeError,
    compact_json,
    trimmed,
)
from oz_agent_worker.protocol.report import ExecutionKey

__all__ = [
    "FALLBACK_IMAGE",
    "WORKSPACE",
    "TaskSettings",
    "TaskSpec",
    "agent_arguments",
    "build_task_spec",
    "check_exec_size",
    "check_sidecars",
]

FALLBACK_IMAGE: Final = "ubuntu:22.04"
WORKSPACE: Final = "/workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """What the worker's configuration adds to every task."""

    server_root_url: str
    session_sharing_server_url: str | None = None
    idle_on_complete: str | None = None
    operator_env: Mapping[str, Secret] = field(default_factory=dict)
    default_image: str | None = None
    sidecar_image: str | None = None
    coding_cli_sidecars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One execution as a backend runs it.

    ``arguments`` follow the agent's program; ``environment`` holds what every backend
    sets, in its final precedence, before the backend's own ``OZ_*`` variables.
    """

    key: ExecutionKey
    title: str
    arguments: tuple[str, ...] = field(repr=False)  # MCP servers come with their keys
    environment: Mapping[str, Secret]
    image: str
    sidecars: tuple[Sidecar, ...]
    shape: InstanceShape
    harness: str | None


def build_task_spec(assignment: Assignment, settings: TaskSettings) -> TaskSpec:
    """Join an assignment with the worker's settings.

    Raises:
        AssignmentError: a value cannot be an argument of a program.
        TaskTooLargeError: an argument or a variable is too long for that.
    """
    arguments = tuple(agent_arguments(assignment, settings))
    if "\0" in "".join(arguments):
        raise AssignmentError("a value has a NUL character, which an argument cannot have")
    environment = _environment(assignment, settings)
    check_exec_size(arguments, environment)
    return TaskSpec(
        key=assignment.key,
        title=assignment.title,
        arguments=arguments,
        environment=environment,
        image=assignment.image or settings.default_image or FALLBACK_IMAGE,
        sidecars=_sidecars(assignment, settings),
        shape=assignment.shape,
        harness=assignment.harness,
    )


def check_exec_size(
    arguments: Sequence[str], environment: Mapping[str, Secret], total: int | None = None
) -> None:
    """Check that a program can be started with these; see ``contract.exec_problem`` for ``total``.

    Raises:
        TaskTooLargeError: it cannot; the text names the argument or the variable, and not its value.
    """
    sizes = (
        (name, len(value.reveal().encode("utf-8", "surrogatepass"))) for name, value in environment.items()
    )
    problem = exec_problem(arguments, sizes, total)
    if problem is not None:
        raise TaskTooLargeError(f"{problem}: hand large values over in another way, such as a file")


def agent_arguments(assignment: Assignment, settings: TaskSettings) -> Iterator[str]:
    """Yield the agent's arguments, without the program's name, in the protocol's order."""
    yield from ("agent", "run")
    if assignment.team_owned:
        yield from ("--share", "team:edit")
    yield from ("--task-id", assignment.agent_task_id)
    yield "--sandboxed"
    yield from ("--server-root-url", settings.server_root_url)
    config = assignment.config
    if config is not None:
        yield from _agent_options(config, built_in=assignment.harness is None)
        yield from _run_options(config)
    yield from assignment.extra_args
    yield "--idle-on-complete"
    minutes = config.idle_timeout_minutes if config else None
    if minutes is not None and minutes > 0:
        yield f"{minutes}m"
    elif settings.idle_on_complete:
        yield settings.idle_on_complete
    yield from _option("--session-sharing-server-url", settings.session_sharing_server_url)


def _option(flag: str, value: str | None) -> Iterator[str]:
    value = trimmed(value)
    if value is not None:
        yield from (flag, value)


def _agent_options(config: frames.ConfigSnapshot, *, built_in: bool) -> Iterator[str]:
    """Yield what the agent works with; ``built_in``: the task names no other harness."""
    if built_in:
        yield from _option("--model", config.model_id)
    yield from _option("--profile", config.profile_id)
    yield from _option("--skill", config.skill_spec)
    if config.mcp_servers:
        yield from ("--mcp", compact_json(config.mcp_servers))
    computer_use = built_in if config.computer_use_enabled is None else config.computer_use_enabled
    yield "--computer-use" if computer_use else "--no-computer-use"
    aws = config.inference_providers.aws if config.inference_providers else None
    if aws is not None and not aws.disabled and trimmed(aws.role_arn):
        yield from _option("--bedrock-inference-role", aws.role_arn)
        yield from _option("--bedrock-role-region", aws.region)
    yield from _option("--harness", config.harness.type if config.harness else None)


def _run_options(config: frames.ConfigSnapshot) -> Iterator[str]:
    """Yield who may watch the run, and what is kept of it."""
    access = trimmed(config.session_sharing.public_access) if config.session_sharing else None
    yield from _option("--share", {"VIEWER": "public:view", "EDITOR": "public:edit"}.get(access or ""))
    if config.snapshot_disabled:
        yield "--no-snapshot"
    for flag, seconds in (
        ("--snapshot-upload-timeout", config.snapshot_upload_timeout_secs),
        ("--snapshot-script-timeout", config.snapshot_script_timeout_secs),
    ):
        if seconds is not None and seconds > 0:
            yield from (flag, f"{seconds}s")
    yield from _option("--environment", config.environment_id)


def _environment(assignment: Assignment, settings: TaskSettings) -> dict[str, Secret]:
    return {
        "TASK_ID": Secret(assignment.agent_task_id),
        "GIT_TERMINAL_PROMPT": Secret("0"),
        "GH_PROMPT_DISABLED": Secret("1"),
        "WARP_SERVER_ROOT_URL": Secret(settings.server_root_url),
        **assignment.env,
        **settings.operator_env,
    }


def _sidecars(assignment: Assignment, settings: TaskSettings) -> tuple[Sidecar, ...]:
    sidecars = list(assignment.sidecars)
    if settings.sidecar_image:
        sidecars = [
            replace(s, image=settings.sidecar_image) if s.mount_path == AGENT_MOUNT_PATH else s
            for s in sidecars
        ]
    harness = assignment.harness or "oz"
    cli_image = settings.coding_cli_sidecars.get(harness)
    if cli_image is not None:
        path = f"/mnt/{harness}-cli-sidecar"
        if not any(s.mount_path.rstrip("/") == path for s in sidecars):
            sidecars.append(Sidecar(cli_image, path))
        sidecars = [replace(s, image=cli_image) if s.mount_path.rstrip("/") == path else s for s in sidecars]
    return tuple(sidecars)


def check_sidecars(sidecars: Iterable[Sidecar]) -> None:
    """Check that a container backend can mount the sidecars.

    Raises:
        AssignmentError: an image or a path is empty, a path is not absolute or is the
            workspace's, or two sidecars share one.
    """
    seen: set[str] = set()
    for sidecar in sidecars:
        path = "/" + sidecar.mount_path.strip("/")
        if not sidecar.image:
            raise AssignmentError(f"the sidecar at {sidecar.mount_path!r} has no image")
        if not sidecar.mount_path.startswith("/") or path == "/" or ".." in path.split("/"):
            raise AssignmentError(f"sidecar mount path {sidecar.mount_path!r} is not an absolute path")
        if path == WORKSPACE:
            raise AssignmentError(f"a sidecar cannot be mounted at {WORKSPACE}, which is the workspace")
        if path in seen:
            raise AssignmentError(f"two sidecars are mounted at {path}")
        seen.add(path)
