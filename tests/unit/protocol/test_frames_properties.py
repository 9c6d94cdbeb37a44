"""What holds for every frame: it decodes or is a FrameError without content, and it survives the wire."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.frames import (
    Ack,
    ControlPlaneFrame,
    ExecutionKey,
    FrameError,
    Heartbeat,
    TaskAssignment,
    TaskCancellation,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskLog,
    TaskRejected,
    WorkerFrame,
    WorkerHello,
    decode_control_plane_frame,
    decode_worker_frame,
    encode_frame,
)

CANARY = "canary-7b21"

# ------------------------------------------------------------------------------- decoding


def _refusal(frame: str | bytes) -> FrameError | None:
    """Decode in both directions; a refusal of either. Anything but FrameError escapes."""
    refusal = None
    for decode in (decode_control_plane_frame, decode_worker_frame):
        try:
            decode(frame)
        except FrameError as error:
            refusal = error
    return refusal


@given(st.binary(max_size=200))
@example(b'{"type":"ack","data":\x00}')
def test_arbitrary_bytes_decode_or_are_a_frame_error(frame: bytes) -> None:
    _refusal(frame)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))  # surrogates too
def test_arbitrary_text_decodes_or_is_a_frame_error(frame: str) -> None:
    _refusal(frame)


KINDS = [
    "task_assignment", "task_cancellation", "ack", "task_claimed", "task_rejected", "task_completed",
    "task_failed", "task_log", "worker_hello", "heartbeat",
]  # fmt: skip
MEMBERS = [
    CANARY,
    "task_id",
    "execution_id",
    "task",
    "docker_image",
    "env_vars",
    "additional_sidecars",
    "additional_oz_args",
    "instance_shape",
    "vcpus",
    "id",
    "owner",
    "Type",
    "agent_config_snapshot",
    "mcp_servers",
    "harness",
    "type",
    "ack_id",
    "worker_id",
    "reason",
    "message",
    "exit_code",
    "offset",
    "text",
    "executions",
    "max_concurrent_tasks",
]
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([CANARY, f"Invalid JSON UTF-8 {CANARY}", f"x {CANARY} y"])
)
_documents = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5),
    max_leaves=12,
)


@given(
    kind=st.sampled_from(KINDS),
    data=_documents,
    cut=st.integers(0, 60),
    tail=st.sampled_from(["", f" {CANARY}"]),
)
def test_a_frame_error_holds_nothing_of_the_payload(kind: str, data: Any, cut: int, tail: str) -> None:
    frame = json.dumps({"type": kind, "data": data})
    for broken in (frame, frame[: len(frame) - cut] + tail):
        refusal = _refusal(broken)
        if refusal is not None:
            assert CANARY not in str(refusal)
            assert CANARY not in repr(refusal)


# ------------------------------------------------------------------------------ round trip

_text = st.text(max_size=12)
_optional = st.none() | _text
_numbers = st.none() | st.integers(-(2**53), 2**53)
_flags = st.none() | st.booleans()
_raw = st.builds(
    lambda value: msgspec.Raw(msgspec.json.encode(value)),
    st.none() | st.integers(-100, 100) | _text | st.lists(_text, max_size=2),
)


def _struct(type_: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.builds(type_, **fields)


_snapshot = _struct(
    frames.ConfigSnapshot,
    environment_id=_optional,
    model_id=_optional,
    mcp_servers=st.none() | st.dictionaries(_text, _raw, max_size=2),
    computer_use_enabled=_flags,
    idle_timeout_minutes=_numbers,
    harness=_struct(frames.HarnessConfig, type=_optional),
    inference_providers=_struct(
        frames.InferenceProviders,
        aws=_struct(frames.AwsProvider, disabled=_flags, role_arn=_optional, region=_optional),
    ),
    session_sharing=_struct(frames.SessionSharing, public_access=_optional),
    snapshot_disabled=_flags,
    snapshot_upload_timeout_secs=_numbers,
)
_assignments = st.builds(
    TaskAssignment,
    task_id=_optional,
    execution_id=_optional,
    task=_struct(
        frames.Task,
        id=_optional,
        title=_optional,
        owner=_struct(frames.Owner, type=_optional),
        agent_config_snapshot=_snapshot,
    ),
    docker_image=_optional,
    env_vars=st.none() | st.dictionaries(_text, st.none() | st.builds(Secret, _text), max_size=3),
    additional_sidecars=st.none()
    | st.lists(
        _struct(frames.SidecarImage, image=_optional, mount_path=_optional, read_write=_flags), max_size=2
    ),
    additional_oz_args=st.none() | st.lists(_optional, max_size=3),
    instance_shape=_struct(frames.InstanceShape, vcpus=_numbers, memory_gb=_numbers),
)


@given(
    _assignments | st.builds(TaskCancellation, task_id=_text) | st.builds(Ack, ack_id=_text),
)
def test_control_plane_frames_survive_the_wire(frame: ControlPlaneFrame) -> None:
    assert decode_control_plane_frame(encode_frame(frame)) == frame


@given(
    st.one_of(
        st.builds(TaskClaimed, task_id=_text, worker_id=_text, execution_id=_optional),
        st.builds(TaskRejected, task_id=_text, reason=_text, execution_id=_optional),
        st.builds(
            TaskCompleted,
            task_id=_text,
            message=_text,
            task_state=_optional,
            execution_id=_optional,
            ack_id=_optional,
        ),
        st.builds(
            TaskFailed,
            task_id=_text,
            message=_text,
            task_state=_optional,
            failure_reason=_optional,
            exit_code=st.integers(0, 255),
            ack_id=_optional,
        ),
        st.builds(TaskLog, task_id=_text, execution_id=_text, offset=st.integers(0, 2**60), text=_text),
        st.builds(
            WorkerHello,
            worker_id=_text,
            version=_text,
            backend=_text,
            max_concurrent_tasks=st.integers(0, 10**6),
            executions=st.lists(st.builds(ExecutionKey, task_id=_text, execution_id=_text), max_size=3),
        ),
        st.just(Heartbeat()),
    )
)
def test_worker_frames_survive_the_wire(frame: WorkerFrame) -> None:
    assert decode_worker_frame(encode_frame(frame)) == frame


def test_what_is_no_frame_s_value_cannot_be_encoded() -> None:
    with pytest.raises(NotImplementedError, match="cannot encode object"):
        encode_frame(TaskCancellation(task_id=object()))  # type: ignore[arg-type]


def test_numbers_that_json_has_not_are_refused() -> None:
    with pytest.raises(FrameError):
        decode_worker_frame(json.dumps({"type": "task_log", "data": {"offset": math.nan}}))
