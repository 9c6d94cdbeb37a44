import functools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import parse_assignment
from oz_agent_worker.protocol.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Capability,
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
    format_capabilities,
    parse_capabilities,
)

from .public_schema import UNREAD

CANARY = "canary-7b21"

# ------------------------------------------------------------------- frames, as they are

FULL_ASSIGNMENT = {
    "type": "task_assignment",
    "data": {
        "task_id": "run-1",
        "execution_id": "exec-1",
        "task": {
            "id": "run-1",
            "title": "Fix it",
            "task_definition": {"prompt": "Fix the bug"},
            "created_at": "2026-01-31T12:00:00Z",
            "updated_at": "2026-01-31T12:00:01Z",
            "owner": {"Type": "TEAM", "Id": 1},
            "agent_config_snapshot": {
                "environment_id": "env-1",
                "base_prompt": "Be brief",
                "model_id": "m",
                "profile_id": "p",
                "skill_spec": "s",
                "mcp_servers": {"github": {"url": "https://mcp.test"}},
                "computer_use_enabled": False,
                "idle_timeout_minutes": 7,
                "harness": {"type": "claude"},
                "harness_auth_secrets": {"claude_auth_secret_name": "claude-key"},
                "inference_providers": {"aws": {"disabled": False, "role_arn": "arn", "region": "eu"}},
                "session_sharing": {"public_access": "VIEWER"},
                "snapshot_disabled": True,
                "snapshot_upload_timeout_secs": 5,
                "snapshot_script_timeout_secs": 6,
            },
            "agent_conversation_id": "conv-1",
        },
        "docker_image": "img",
        "sidecar_image": "side",
        "env_vars": {"TOKEN": "t"},
        "additional_sidecars": [{"image": "i", "mount_path": "/m", "read_write": True}],
        "additional_oz_args": ["--x", "1"],
        "instance_shape": {"vcpus": 2, "memory_gb": 4},
    },
}  # fmt: skip


def test_every_field_that_a_worker_reads_is_decoded() -> None:
    assert decode_control_plane_frame(json.dumps(FULL_ASSIGNMENT)) == TaskAssignment(
        task_id="run-1",
        execution_id="exec-1",
        task=frames.Task(
            id="run-1",
            title="Fix it",
            created_at="2026-01-31T12:00:00Z",
            owner=frames.Owner(type="TEAM"),
            agent_config_snapshot=frames.ConfigSnapshot(
                environment_id="env-1",
                model_id="m",
                profile_id="p",
                skill_spec="s",
                mcp_servers={"github": msgspec.Raw(b'{"url": "https://mcp.test"}')},
                computer_use_enabled=False,
                idle_timeout_minutes=7,
                harness=frames.HarnessConfig(type="claude"),
                inference_providers=frames.InferenceProviders(
                    aws=frames.AwsProvider(disabled=False, role_arn="arn", region="eu")
                ),
                session_sharing=frames.SessionSharing(public_access="VIEWER"),
                snapshot_disabled=True,
                snapshot_upload_timeout_secs=5,
                snapshot_script_timeout_secs=6,
            ),
        ),
        docker_image="img",
        sidecar_image="side",
        env_vars={"TOKEN": Secret("t")},
        additional_sidecars=[frames.SidecarImage(image="i", mount_path="/m", read_write=True)],
        additional_oz_args=["--x", "1"],
        instance_shape=frames.InstanceShape(vcpus=2, memory_gb=4),
    )


def test_what_a_worker_reads_keeps_its_form_when_it_is_sent_on() -> None:
    frame = decode_control_plane_frame(json.dumps(FULL_ASSIGNMENT))
    read: Any = json.loads(json.dumps(FULL_ASSIGNMENT))
    for path in UNREAD:
        *parents, name = path.split(".")
        del functools.reduce(dict.__getitem__, parents, read["data"])[name]
    assert json.loads(encode_frame(frame)) == read


def _nulled(value: Any) -> Any:
    """The same document with every leaf, and then every member, replaced by null."""
    return dict.fromkeys(value) if isinstance(value, dict) else None


@pytest.mark.parametrize("where", [(), ("task",), ("task", "agent_config_snapshot")])
def test_null_counts_as_absent(where: tuple[str, ...]) -> None:
    document: Any = json.loads(json.dumps(FULL_ASSIGNMENT))
    parent, name, node = document, "data", document["data"]
    for step in where:
        parent, name, node = node, step, node[step]
    parent[name] = _nulled(node)
    with_nulls = decode_control_plane_frame(json.dumps(document))
    parent[name] = {}
    assert with_nulls == decode_control_plane_frame(json.dumps(document))


@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":{}', ',"data":{"unknown":[1,{"a":null}]}'])
def test_absent_and_unknown_members_are_no_error(data: str) -> None:
    assert decode_control_plane_frame('{"type":"task_assignment"' + data + "}") == TaskAssignment()


def test_unknown_members_of_the_envelope_are_ignored() -> None:
    frame = '{"version":9,"data":{"task_id":"a"},"type":"task_cancellation","trace":{"id":1}}'
    assert decode_control_plane_frame(frame) == TaskCancellation(task_id="a")


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_frame_may_come_as_text_or_as_bytes(as_bytes: bool) -> None:
    text = '{"type":"task_cancellation","data":{"task_id":"ä"}}'
    frame = text.encode() if as_bytes else text
    assert decode_control_plane_frame(frame) == TaskCancellation(task_id="ä")


WORKER_FRAMES: list[tuple[WorkerFrame, dict[str, Any]]] = [
    (
        TaskClaimed(task_id="t", worker_id="w"),
        {"type": "task_claimed", "data": {"task_id": "t", "worker_id": "w"}},
    ),
    (
        TaskRejected(task_id="t", reason="r"),
        {"type": "task_rejected", "data": {"task_id": "t", "reason": "r"}},
    ),
    (
        TaskCompleted(task_id="t", message="m"),
        {"type": "task_completed", "data": {"task_id": "t", "message": "m"}},
    ),
    (
        TaskCompleted(task_id="t", message="m", task_state="CANCELLED"),
        {"type": "task_completed", "data": {"task_id": "t", "message": "m", "task_state": "CANCELLED"}},
    ),
    (
        TaskFailed(task_id="t", message="m", failure_reason="container_oom", exit_code=137),
        {
            "type": "task_failed",
            "data": {"task_id": "t", "message": "m", "failure_reason": "container_oom", "exit_code": 137},
        },
    ),
    (
        TaskFailed(task_id="t", message="m"),
        {"type": "task_failed", "data": {"task_id": "t", "message": "m"}},
    ),
    (
        TaskLog(task_id="t", execution_id="e", offset=0, text="ä\n"),
        {"type": "task_log", "data": {"task_id": "t", "execution_id": "e", "offset": 0, "text": "ä\n"}},
    ),
    (
        WorkerHello(
            worker_id="w",
            version="1",
            backend="direct",
            max_concurrent_tasks=3,
            executions=[ExecutionKey(task_id="t", execution_id="e")],
        ),
        {
            "type": "worker_hello",
            "data": {
                "worker_id": "w",
                "version": "1",
                "backend": "direct",
                "max_concurrent_tasks": 3,
                "executions": [{"task_id": "t", "execution_id": "e"}],
            },
        },
    ),
    (
        WorkerHello(worker_id="w", version="1", backend="b"),
        {"type": "worker_hello", "data": {"worker_id": "w", "version": "1", "backend": "b"}},
    ),
    (Heartbeat(), {"type": "heartbeat", "data": {}}),
]


@pytest.mark.parametrize(("frame", "document"), WORKER_FRAMES)
def test_worker_frames_on_the_wire(frame: WorkerFrame, document: dict[str, Any]) -> None:
    assert json.loads(encode_frame(frame)) == document
    assert decode_worker_frame(json.dumps(document)) == frame


def test_a_peer_s_frames_are_unknown_in_the_other_direction() -> None:
    with pytest.raises(FrameError, match="unknown type"):
        decode_control_plane_frame(encode_frame(Heartbeat()))
    with pytest.raises(FrameError, match="unknown type"):
        decode_worker_frame(encode_frame(Ack(ack_id="a")))


def test_secrets_are_hidden_in_a_frame_s_text_form_and_revealed_on_the_wire() -> None:
    frame = TaskAssignment(
        env_vars={"TOKEN": Secret(CANARY)},
        task=frames.Task(agent_config_snapshot=frames.ConfigSnapshot(mcp_servers={"a": msgspec.Raw(b"1")})),
    )
    assert CANARY not in repr(frame)
    assert json.loads(encode_frame(frame))["data"]["env_vars"] == {"TOKEN": CANARY}


def test_mcp_servers_do_not_print_their_keys() -> None:
    document = {"task": {"agent_config_snapshot": {"mcp_servers": {"a": {"token": CANARY}}}}}
    frame = decode_control_plane_frame(json.dumps({"type": "task_assignment", "data": document}))
    assert CANARY not in repr(frame)


# -------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("frame", "kind", "why"),
    [
        ("", "?", "not a frame: Input data was truncated"),
        ("{", "?", "not a frame: Input data was truncated"),
        ("hello", "?", "not a frame: JSON is malformed: invalid character (byte 0)"),
        ("[]", "?", "not a frame: Expected `object`, got `array`"),
        ("{}", "?", "not a frame: Object missing required field `type`"),
        ('{"type":1}', "?", "not a frame: Expected `str`, got `int` - at `$.type`"),
        ('{"type":null}', "?", "not a frame: Expected `str`, got `null` - at `$.type`"),
        ('{"type":"ack"} x', "?", "not a frame: JSON is malformed: trailing characters (byte 16)"),
        ('{"type":"odd","data":{}}', "odd", "unknown type"),
        ('{"type":"","data":{}}', "?", "unknown type"),
        ('{"type":"a b\\u001b[31m","data":{}}', "a?b??31m", "unknown type"),
        ('{"type":"' + "k" * 99 + '"}', "k" * 40, "unknown type"),
        ('{"type":"ack","data":{}}', "ack", "Object missing required field `ack_id`"),
        ('{"type":"ack","data":[1]}', "ack", "Expected `object`, got `array`"),
        ('{"type":"ack","data":"x"}', "ack", "Expected `object`, got `str`"),
        ('{"type":"ack","data":{"ack_id":5}}', "ack", "Expected `str`, got `int` - at `$.ack_id`"),
        (
            '{"type":"task_assignment","data":{"task":{"owner":7}}}',
            "task_assignment",
            "Expected `object | null`, got `int` - at `$.task.owner`",
        ),
        (
            '{"type":"task_assignment","data":{"env_vars":{"A":5}}}',
            "task_assignment",
            "Expected `str`, got `int` - at `$.env_vars[...]`",
        ),
    ],
)
def test_what_cannot_be_used_is_named_by_kind_size_and_reason(frame: str, kind: str, why: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode_control_plane_frame(frame)
    error = caught.value
    assert (error.kind, error.size, error.why) == (kind, len(frame.encode()), why)
    assert str(error) == f"{kind} frame of {len(frame.encode())} bytes: {why}"


def test_the_size_counts_bytes() -> None:
    with pytest.raises(FrameError, match="frame of 20 bytes"):
        decode_control_plane_frame('{"type":"ääää"}x')


def _cancellation_of_size(size: int) -> str:
    empty = encode_frame(TaskCancellation(task_id=""))
    return encode_frame(TaskCancellation(task_id="x" * (size - len(empty))))


def test_the_largest_frame_is_16_mib() -> None:
    assert MAX_FRAME_BYTES == 16 * 1024 * 1024
    assert isinstance(decode_control_plane_frame(_cancellation_of_size(MAX_FRAME_BYTES)), TaskCancellation)
    with pytest.raises(FrameError) as caught:
        decode_control_plane_frame(_cancellation_of_size(MAX_FRAME_BYTES + 1))
    assert str(caught.value) == "? frame of 16777217 bytes: larger than the limit of 16777216 bytes"


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"task_cancellation","data":{"task_id":"\ud800"}}',  # no text at all
        b'{"type":"task_cancellation","data":{"task_id":"\xff"}}',
        # Members that are taken over unread must be text as well.
        b'{"type":"task_assignment","data":{"task":{"agent_config_snapshot":{"mcp_servers":{"a":"\xff"}}}}}',
        b"\xff\xfe\x00",
        '{"type":"ack","data":{"ack_id":' + "[" * 100_000 + "]" * 100_000 + "}}",
        '{"type":"ack","data":{"ack_id":"a","x":' + '{"x":' * 5000 + "1" + "}" * 5000 + "}}",
        '{"type":"task_assignment","data":{"instance_shape":{"vcpus":' + "9" * 5000 + "}}}",
        '{"type":"task_assignment","data":{"instance_shape":{"vcpus":1e999}}}',
    ],
)
def test_hostile_frames_are_frame_errors(frame: str | bytes) -> None:
    with pytest.raises(FrameError):
        decode_control_plane_frame(frame)


# ---------------------------------------------------------------------------- capabilities


@pytest.mark.parametrize(
    ("header", "capabilities"),
    [
        (None, set()),
        ("", set()),
        (" , ,", set()),
        ("ack", {Capability.ACK}),
        (" ACK ,Logs", {Capability.ACK, Capability.LOGS}),
        ("hello, ack, logs", {Capability.ACK, Capability.LOGS, Capability.HELLO}),
        ("telepathy, ack", {Capability.ACK}),
    ],
)
def test_the_capabilities_header(header: str | None, capabilities: set[Capability]) -> None:
    assert parse_capabilities(header) == capabilities


@given(st.frozensets(st.sampled_from(Capability)))
def test_capabilities_survive_the_header(capabilities: frozenset[Capability]) -> None:
    assert parse_capabilities(format_capabilities(capabilities)) == capabilities


def test_capabilities_are_written_in_one_order() -> None:
    assert format_capabilities(set(Capability)) == "ack, hello, logs"


@pytest.mark.parametrize(
    ("escapes", "text"),
    [
        (r"\ud83c\udf89", "\U0001f389"),
        (r"cut \ud83c", "cut \ufffd"),
        (r"\udf89 x", "\ufffd x"),
        (r"\uD83C\ud83c\uDF89", "\ufffd\U0001f389"),
        (r"\\ud83c", r"\ud83c"),
        (r"\\\ud83c", "\\\ufffd"),
    ],
)
def test_half_of_a_character_does_not_make_a_frame_unusable(escapes: str, text: str) -> None:
    """K8: a title that was cut after so many UTF-16 units ends with one; Go reads U+FFFD."""
    data = (
        f'{{"task_id":"t","task":{{"id":"t","title":"{escapes}",'
        f'"agent_config_snapshot":{{"mcp_servers":{{"a":"{escapes}"}}}}}},"env_vars":{{"A":"{escapes}"}}}}'
    )
    frame = decode_control_plane_frame(f'{{"type":"task_assignment","data":{data}}}')
    assert isinstance(frame, TaskAssignment)
    assert frame.env_vars == {"A": Secret(text)}
    assert encode_frame(frame).encode()
    assert parse_assignment(frame).env["A"] == Secret(text)


def test_half_of_a_character_does_not_hide_another_fault() -> None:
    with pytest.raises(FrameError, match="not a frame"):
        decode_control_plane_frame(r'{"type":"ack","data":{"x":"\ud83c"}')
