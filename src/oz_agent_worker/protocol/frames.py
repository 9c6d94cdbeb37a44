"""The frames between a control plane and a worker, as msgspec structs.

One JSON object a text frame: ``{"type": <kind>, "data": {...}}``. Unknown fields
are ignored and a JSON ``null`` counts as absent everywhere, as the public service
and the public worker have it. What is decoded here is not yet trusted:
``protocol.assignment`` turns it into the form that the rest of the program uses.

A member that the receiver does not use must not make a frame unusable, whatever its
value. The structs that are decoded therefore leave it out. A member that is only shown or
measured is a ``LenientText``: a value that is no string counts as absent.

The frames marked *negotiated* go only to a peer that named the capability in the
``X-Oz-Capabilities`` header of its handshake response.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

from oz_agent_worker.common.secret import Secret

__all__ = [
    "CAPABILITIES_HEADER",
    "MAX_FRAME_BYTES",
    "Ack",
    "AwsProvider",
    "Capability",
    "ConfigSnapshot",
    "ControlPlaneFrame",
    "ExecutionKey",
    "FrameError",
    "HarnessAuthSecrets",
    "HarnessConfig",
    "Heartbeat",
    "InferenceProviders",
    "InstanceShape",
    "LenientStruct",
    "LenientText",
    "Owner",
    "SentConfigSnapshot",
    "SentTask",
    "SessionSharing",
    "SidecarImage",
    "Task",
    "TaskAssignment",
    "TaskCancellation",
    "TaskClaimed",
    "TaskCompleted",
    "TaskDefinition",
    "TaskFailed",
    "TaskLog",
    "TaskRejected",
    "WorkerFrame",
    "WorkerHello",
    "decode_control_plane_frame",
    "decode_worker_frame",
    "encode_frame",
    "format_capabilities",
    "parse_capabilities",
]

#: The largest frame that is read, in bytes (16 MiB).
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
#: Handshake response header in which a control plane names its capabilities.
CAPABILITIES_HEADER: Final = "X-Oz-Capabilities"


class Capability(StrEnum):
    """What a control plane offers beyond the public protocol."""

    ACK = "ack"
    """Terminal frames carry ``ack_id``; the peer answers each with an ``ack``."""
    LOGS = "logs"
    """The peer takes ``task_log`` frames."""
    HELLO = "hello"
    """The peer takes a ``worker_hello`` as the first frame of a connection."""


class ExecutionKey(Struct, frozen=True, order=True, gc=False):
    """Names one execution of one run: the identity from the assignment's frame to the report's."""

    task_id: str
    execution_id: str

    def __str__(self) -> str:
        return self.task_id if self.execution_id == self.task_id else f"{self.task_id}/{self.execution_id}"


if TYPE_CHECKING:
    LenientText: TypeAlias = str | None
else:
    LenientText = Raw  # decoded as raw JSON: msgspec cannot read every number, such as 1e999


class LenientStruct(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A struct with ``LenientText`` members: after decoding each is a string or ``None``."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            raw = getattr(self, name)
            if isinstance(raw, Raw):
                msgspec.structs.force_setattr(self, name, _text(raw))


def _text(raw: Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, RecursionError):
        return None


class _Frame(LenientStruct, frozen=True, omit_defaults=True, kw_only=True):
    """What every frame has: its ``type`` on the wire."""

    kind: ClassVar[str]


# --------------------------------------------------------------- control plane to worker


class Owner(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The run's owner; ``type`` is ``USER`` or ``TEAM``.

    The public service sends an integer ``Id`` as well, which no worker uses.
    """

    type: str | None = msgspec.field(name="Type", default=None)


class HarnessConfig(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``type`` is the harness; absent, empty or ``oz`` is the agent's built-in one."""

    type: str | None = None


class AwsProvider(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The AWS role with which the agent calls Amazon Bedrock."""

    disabled: bool | None = None
    role_arn: str | None = None
    region: str | None = None


class InferenceProviders(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where the agent's model runs."""

    aws: AwsProvider | None = None


class SessionSharing(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``public_access`` is ``VIEWER`` or ``EDITOR``: what anybody may do in the agent's session."""

    public_access: str | None = None


class ConfigSnapshot(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``agent_config_snapshot``: the members that a worker reads."""

    environment_id: str | None = None
    model_id: str | None = None
    profile_id: str | None = None
    skill_spec: str | None = None
    mcp_servers: dict[str, Raw] | None = None
    computer_use_enabled: bool | None = None
    idle_timeout_minutes: int | None = None
    harness: HarnessConfig | None = None
    inference_providers: InferenceProviders | None = None
    session_sharing: SessionSharing | None = None
    snapshot_disabled: bool | None = None
    snapshot_upload_timeout_secs: int | None = None
    snapshot_script_timeout_secs: int | None = None


class Task(LenientStruct, frozen=True, omit_defaults=True, kw_only=True):
    """The run: the members that a worker reads. ``created_at`` is an RFC 3339 string."""

    id: str | None = None
    title: LenientText = None
    created_at: LenientText = None
    owner: Owner | None = None
    agent_config_snapshot: ConfigSnapshot | None = None


class HarnessAuthSecrets(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The names of secrets for harnesses; no worker uses them."""

    claude_auth_secret_name: str | None = None


class SentConfigSnapshot(ConfigSnapshot, frozen=True, omit_defaults=True, kw_only=True):
    """``agent_config_snapshot`` with every public member, for a control plane to send."""

    base_prompt: str | None = None
    harness_auth_secrets: HarnessAuthSecrets | None = None


class TaskDefinition(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the run was asked to do; no worker uses it."""

    prompt: str | None = None


class SentTask(Task, frozen=True, omit_defaults=True, kw_only=True):
    """The run with every public member but ``owner.Id``, for a control plane to send.

    Times are RFC 3339 strings.
    """

    task_definition: TaskDefinition | None = None
    updated_at: str | None = None
    agent_conversation_id: str | None = None


class SidecarImage(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An image whose files appear at ``mount_path`` in the task."""

    image: str | None = None
    mount_path: str | None = None
    read_write: bool | None = None


class InstanceShape(Struct, frozen=True, omit_defaults=True):
    """The machine that a task asks for: CPUs and GiB of memory; each applies only where it is positive."""

    vcpus: int | None = None
    memory_gb: int | None = None


class TaskAssignment(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """One execution of a run, to be carried out by the worker that receives it."""

    kind: ClassVar[str] = "task_assignment"

    task_id: str | None = None
    execution_id: str | None = None
    task: Task | None = None
    docker_image: str | None = None
    sidecar_image: str | None = None
    env_vars: dict[str, Secret | None] | None = None
    additional_sidecars: list[SidecarImage | None] | None = None
    additional_oz_args: list[str | None] | None = None
    instance_shape: InstanceShape | None = None


class TaskCancellation(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """Ends a task. ``execution_id`` (only for a peer that sent hello) limits it to one execution."""

    kind: ClassVar[str] = "task_cancellation"

    task_id: str
    execution_id: str | None = None


class Ack(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """Negotiated (``ack``): the terminal frame with this ``ack_id`` is stored."""

    kind: ClassVar[str] = "ack"

    ack_id: str


# --------------------------------------------------------------- worker to control plane


class TaskClaimed(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """The worker takes a task; sent before any terminal frame of it."""

    kind: ClassVar[str] = "task_claimed"

    task_id: str
    worker_id: LenientText = None  # the control plane has it from the handshake
    execution_id: str | None = None  # negotiated (ack)


class TaskRejected(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """The worker hands a task back; it stays queued. ``reason`` is a ``RejectionReason``.

    ``message`` says what happened.
    """

    kind: ClassVar[str] = "task_rejected"

    task_id: str
    reason: str
    message: LenientText = None  # negotiated (ack)
    execution_id: str | None = None  # negotiated (ack)


class TaskCompleted(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """The task ended well, or as ``CANCELLED`` where ``task_state`` says so."""

    kind: ClassVar[str] = "task_completed"

    task_id: str
    message: str
    task_state: str | None = None
    execution_id: str | None = None  # negotiated (ack)
    ack_id: str | None = None  # negotiated (ack)


class TaskFailed(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """The task failed. ``exit_code`` is the agent's (128 plus a signal's number); absent or 0: none seen."""

    kind: ClassVar[str] = "task_failed"

    task_id: str
    message: str
    task_state: str | None = None
    failure_reason: str | None = None
    exit_code: int | None = None
    execution_id: str | None = None  # negotiated (ack)
    ack_id: str | None = None  # negotiated (ack)


class TaskLog(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """Negotiated (``logs``): a chunk of the task's output.

    ``offset`` is the number of UTF-8 bytes of this execution's output before ``text``:
    a receiver drops what it already has, so that sending a chunk twice is harmless.
    """

    kind: ClassVar[str] = "task_log"

    task_id: str
    execution_id: str
    offset: int
    text: str


class WorkerHello(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """Negotiated (``hello``): the first frame of a connection.

    ``max_concurrent_tasks`` absent or 0 means unlimited. ``executions`` are those that this worker
    has claimed. ``instance`` distinguishes workers of one ID; a restarted worker has the same value
    only where it finds all that it ran. The control plane has ``worker_id`` from the handshake, and
    only logs ``version``.
    """

    kind: ClassVar[str] = "worker_hello"

    worker_id: LenientText = None
    version: LenientText = None
    backend: str
    instance: str | None = None
    max_concurrent_tasks: int | None = None
    executions: list[ExecutionKey] | None = None


class Heartbeat(_Frame, frozen=True, omit_defaults=True, kw_only=True):
    """Declared by the public protocol and unused: WebSocket pings serve."""

    kind: ClassVar[str] = "heartbeat"


ControlPlaneFrame = TaskAssignment | TaskCancellation | Ack
WorkerFrame = TaskClaimed | TaskRejected | TaskCompleted | TaskFailed | TaskLog | WorkerHello | Heartbeat


class FrameError(ValueError):
    """A frame that cannot be used. Its text never holds a part of the payload.

    ``kind`` is the frame's type where it could be read, else ``?``; ``size`` is its
    length in bytes; ``data`` is the raw ``data`` member where the envelope was sound.
    """

    def __init__(self, kind: str, size: int, why: str, data: bytes = b"") -> None:
        super().__init__(f"{kind} frame of {size} bytes: {why}")
        self.kind = kind
        self.size = size
        self.why = why
        self.data = data


class _Envelope(Struct, frozen=True):
    type: str
    data: Raw = Raw(b"{}")


def _decode_hook(type_: type, value: Any) -> Any:
    if type_ is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds the field's path


def _encode_hook(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_encode_hook)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


def _decoders(*types: type[_Frame]) -> dict[str, msgspec.json.Decoder[Any]]:
    return {t.kind: msgspec.json.Decoder(t, dec_hook=_decode_hook) for t in types}


_CONTROL_PLANE = _decoders(TaskAssignment, TaskCancellation, Ack)
_WORKER = _decoders(TaskClaimed, TaskRejected, TaskCompleted, TaskFailed, TaskLog, WorkerHello, Heartbeat)


#: An escape of JSON; the group is half of a surrogate pair without its other half (RFC 8259, 8.2).
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def _without_halves(raw: bytes) -> bytes:
    """JSON with U+FFFD where half of a character is escaped, as programs in Go read it (encoding/json).

    A sender that cuts a title after so many UTF-16 units writes such halves.
    """
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)


def _decode(frame: str | bytes, decoders: dict[str, msgspec.json.Decoder[Any]]) -> Any:
    raw = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
    size = len(raw)
    if size > MAX_FRAME_BYTES:
        raise FrameError("?", size, f"larger than the limit of {MAX_FRAME_BYTES} bytes")
    try:
        raw.decode()  # ``Raw`` members are not decoded, but must be text as well
        try:
            envelope = _envelope_decoder.decode(raw)
        except msgspec.DecodeError:
            envelope = _envelope_decoder.decode(_without_halves(raw))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FrameError("?", size, f"not a frame: {error}") from None
    decoder = decoders.get(envelope.type)
    if decoder is None:
        kind = re.sub(r"[^\w.-]", "?", envelope.type[:40]) or "?"
        raise FrameError(kind, size, "unknown type")
    if not decoder.type.__struct_fields__:
        return decoder.type()  # none of its data is used
    data = bytes(envelope.data)
    try:
        # msgspec's texts name types, paths and offsets, but no value: no field of a frame is an enum.
        return decoder.decode(b"{}" if data == b"null" else data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FrameError(envelope.type, size, str(error), data) from None


def decode_control_plane_frame(frame: str | bytes) -> ControlPlaneFrame:
    """Decode a frame that a control plane sent.

    Raises:
        FrameError: the frame is no JSON, too large, of an unknown type, or one of
            its fields has the wrong type (the text names the field's path).
    """
    decoded: ControlPlaneFrame = _decode(frame, _CONTROL_PLANE)
    return decoded


def decode_worker_frame(frame: str | bytes) -> WorkerFrame:
    """Decode a frame that a worker sent. Raises FrameError as its twin does."""
    decoded: WorkerFrame = _decode(frame, _WORKER)
    return decoded


def encode_frame(frame: ControlPlaneFrame | WorkerFrame) -> str:
    """Encode a frame as the text of one WebSocket message. Secrets are revealed."""
    return _encoder.encode({"type": frame.kind, "data": frame}).decode()


def parse_capabilities(header: str | None) -> frozenset[Capability]:
    """Read the ``X-Oz-Capabilities`` header; names that are not known are skipped."""
    known = {c.value: c for c in Capability}
    names = (part.strip().lower() for part in (header or "").split(","))
    return frozenset(known[name] for name in names if name in known)


def format_capabilities(capabilities: Iterable[Capability]) -> str:
    """Write the ``X-Oz-Capabilities`` header."""
    return ", ".join(sorted(capabilities))
