import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.protocol.assignment import Assignment
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.frames import Capability
from oz_agent_worker.protocol.log_stream import MAX_CHUNK
from oz_agent_worker.protocol.outbox import Claim
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import (
    Assigned,
    AssignmentRefused,
    CancellationRequested,
    Delivered,
    FrameIgnored,
    Ping,
    Text,
)

from .frames import assignment_frame
from .sessions import ALL, END_A, END_B, PUBLIC, A, B, Worker, shown, types

CANARY = "canary-0d4e"


# ------------------------------------------------------------------------------------- in


def test_an_assignment() -> None:
    event = Worker().session.receive_text(assignment_frame(), 0.0)
    assert event == Assigned(Assignment(key=ExecutionKey("run-1", "exec-1"), agent_task_id="run-1"))


def test_a_cancellation() -> None:
    frame = '{"type":"task_cancellation","data":{"task_id":"run-1"}}'
    assert Worker().session.receive_text(frame, 0.0) == CancellationRequested("run-1")


def test_a_cancellation_of_one_execution() -> None:
    frame = '{"type":"task_cancellation","data":{"task_id":"run-1","execution_id":"exec-2"}}'
    assert Worker().session.receive_text(frame, 0.0) == CancellationRequested("run-1", "exec-2")


@pytest.mark.parametrize(
    ("data", "key", "why"),
    [
        (
            '{"task_id":"t"}',
            ExecutionKey("t", "t"),
            "`task` is missing: the assignment does not say what to run",
        ),
        (
            '{"task_id":"t","execution_id":"e","task":null}',
            ExecutionKey("t", "e"),
            "`task` is missing: the assignment does not say what to run",
        ),
        (
            '{"task_id":"t","execution_id":"e","task":{"owner":5}}',
            ExecutionKey("t", "e"),
            "Expected `object | null`, got `int` - at `$.task.owner`",
        ),
        (
            '{"task_id":"t","execution_id":7,"task":{}}',
            ExecutionKey("t", "t"),
            "Expected `str | null`, got `int` - at `$.execution_id`",
        ),
        (
            '{"task_id":"t","execution_id":1e999,"task":{}}',
            ExecutionKey("t", "t"),
            "Number out of range - at `$.execution_id`",
        ),
        (
            '{"task_id":" t ","execution_id":" ","env_vars":["' + CANARY + '"]}',
            ExecutionKey("t", "t"),
            "Expected `object | null`, got `array` - at `$.env_vars`",
        ),
    ],
)
def test_an_assignment_that_cannot_be_carried_out_is_answered(data: str, key: ExecutionKey, why: str) -> None:
    frame = '{"type":"task_assignment","data":' + data + "}"
    assert Worker().session.receive_text(frame, 0.0) == AssignmentRefused(key, why)


@pytest.mark.parametrize(
    ("frame", "kind", "why"),
    [
        ("", "?", "not a frame: Input data was truncated"),
        ('{"type":"odd","data":{"a":"' + CANARY + '"}}', "odd", "unknown type"),
        (
            '{"type":"task_cancellation","data":{}}',
            "task_cancellation",
            "Object missing required field `task_id`",
        ),
        ('{"type":"task_assignment"}', "task_assignment", "`task_id` is missing"),
        (
            '{"type":"task_assignment","data":{"task_id":7,"task":{},"execution_id":"ä"}}',
            "task_assignment",
            "Expected `str | null`, got `int` - at `$.task_id`",
        ),
        (
            '{"type":"task_assignment","data":{"task_id":["' + CANARY + '"]}}',
            "task_assignment",
            "Expected `str | null`, got `array` - at `$.task_id`",
        ),
        (
            '{"type":"task_assignment","data":{"task_id":"  ","title":"ä"}}',
            "task_assignment",
            "`task_id` is missing",
        ),
    ],
)
def test_frames_that_nothing_can_be_done_with(frame: str, kind: str, why: str) -> None:
    event = Worker().session.receive_text(frame, 0.0)
    assert event == FrameIgnored(kind, len(frame.encode()), why)


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_no_frame_raises(frame: str | bytes) -> None:
    assert isinstance(Worker().session.receive_text(frame, 0.0), FrameIgnored)


@given(st.binary(max_size=130))
def test_no_pong_raises_or_delivers_what_was_not_sent(payload: bytes) -> None:
    worker = Worker()
    worker.outbox.add(END_A)
    assert worker.session.receive_pong(payload, 0.0) == Delivered(())
    assert worker.outbox.has_due


# ------------------------------------------------------------------------------------ out


def test_a_quiet_connection_sends_nothing() -> None:
    assert Worker(PUBLIC).frames() == []


def test_the_hello_comes_first_where_it_was_asked_for() -> None:
    worker = Worker(frozenset({Capability.HELLO}))
    worker.outbox.add(Claim(A))
    assert worker.frames()[:2] == [
        {
            "type": "worker_hello",
            "data": {
                "worker_id": "w",
                "version": "1.0",
                "backend": "direct",
                "max_concurrent_tasks": 2,
                "executions": [{"task_id": "a", "execution_id": "a"}],
            },
        },
        {"type": "task_claimed", "data": {"task_id": "a", "worker_id": "w"}},
    ]


def test_a_public_peer_gets_exactly_the_public_frames() -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(Claim(B))
    worker.logs.write(B, b"not for this peer")
    worker.outbox.add(TerminalReport(B, failed(FailureReason.CONTAINER_EXIT, "broke", exit_code=2)))
    worker.session.reject(A, "at_capacity")
    assert worker.frames() == [
        {"type": "task_rejected", "data": {"task_id": "a", "reason": "at_capacity"}},
        {"type": "task_claimed", "data": {"task_id": "b", "worker_id": "w"}},
        {
            "type": "task_failed",
            "data": {
                "task_id": "b",
                "message": "broke",
                "failure_reason": "container_exit",
                "exit_code": 2,
            },
        },
        b"1",
    ]


def test_a_peer_with_every_capability() -> None:
    worker = Worker(ALL)
    worker.frames()
    worker.outbox.add(Claim(B))
    worker.logs.write(B, "grüß\n".encode())
    worker.outbox.add(END_B)
    worker.session.reject(A, "at_capacity")
    assert worker.frames() == [
        {
            "type": "task_rejected",
            "data": {"task_id": "a", "reason": "at_capacity", "execution_id": "a"},
        },
        {"type": "task_claimed", "data": {"task_id": "b", "worker_id": "w", "execution_id": "b2"}},
        {"type": "task_log", "data": {"task_id": "b", "execution_id": "b2", "offset": 0, "text": "grüß\n"}},
        {
            "type": "task_completed",
            "data": {"task_id": "b", "message": "done", "execution_id": "b2", "ack_id": "b/b2#2"},
        },
        b"1",
    ]


def test_the_pong_delivers_to_a_public_peer() -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(Claim(A))
    worker.outbox.add(END_A)
    assert worker.frames()[-1] == b"1"
    assert worker.session.receive_pong(b"1", 0.0) == Delivered((END_A,))
    assert len(worker.outbox) == 0


@pytest.mark.parametrize(
    "payload", [b"", b"0", b"2", b"01x", b"-1", b"1 ", b"99999999999999999999999", b"\xff"]
)
def test_a_pong_that_answers_no_ping_delivers_nothing(payload: bytes) -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(END_A)
    worker.frames()
    assert worker.session.receive_pong(payload, 0.0) == Delivered(())
    assert len(worker.outbox) == 1


def test_a_pong_before_the_ping_is_written_delivers_nothing() -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(END_A)
    writing = worker.session.data_to_send(0.0)
    assert isinstance(next(writing), Text)
    assert worker.session.receive_pong(b"1", 0.0) == Delivered(())
    assert next(writing) == Ping(b"1")
    assert worker.session.receive_pong(b"1", 0.0) == Delivered((END_A,))


def test_with_acks_only_the_ack_delivers() -> None:
    worker = Worker(frozenset({Capability.ACK}))
    worker.outbox.add(Claim(A))
    worker.outbox.add(END_A)
    ack_id = worker.frames()[1]["data"]["ack_id"]
    assert worker.session.receive_pong(b"1", 0.0) == Delivered(())
    ack = json.dumps({"type": "ack", "data": {"ack_id": ack_id}})
    assert worker.session.receive_text(ack, 0.0) == Delivered((END_A,))
    assert worker.session.receive_text(ack, 0.0) == Delivered(())
    assert len(worker.outbox) == 0


def test_a_rejection_belongs_to_its_connection() -> None:
    worker = Worker(PUBLIC)
    worker.session.reject(A, "at_capacity")
    worker.connect(PUBLIC)
    assert worker.frames() == []


def test_what_one_connection_did_not_deliver_leaves_on_the_next() -> None:
    worker = Worker(ALL)
    worker.frames()
    worker.outbox.add(Claim(A))
    worker.logs.write(A, b"out")
    worker.outbox.add(END_A)
    first = worker.frames()
    worker.connect(ALL)
    hello, *second, ping = worker.frames()
    assert hello["type"] == "worker_hello"
    assert second == first[:-1]
    assert ping == b"1"


def test_output_never_overtakes_a_claim_that_came_up_while_something_was_written() -> None:
    worker = Worker(frozenset({Capability.LOGS}))
    worker.outbox.add(Claim(A))
    writing = worker.session.data_to_send(0.0)
    written = [shown(next(writing))]
    worker.outbox.add(Claim(B))
    worker.logs.write(B, b"output of b")
    written += [shown(item) for item in writing]
    assert types(written) == ["task_claimed", "ping"]
    assert types(worker.frames()) == ["task_claimed", "task_log"]


def test_a_report_never_overtakes_its_output() -> None:
    worker = Worker(frozenset({Capability.LOGS}))
    worker.outbox.add(Claim(A))
    worker.logs.write(A, b"x" * (3 * MAX_CHUNK))
    worker.outbox.add(END_A)
    assert types(worker.frames()) == ["task_claimed", *["task_log"] * 3, "task_completed", "ping"]


def test_a_task_that_prints_without_end_does_not_block_the_others() -> None:
    worker = Worker(frozenset({Capability.LOGS}))
    worker.outbox.add(Claim(A))
    worker.frames()
    worker.logs.write(A, b"y\n" * MAX_CHUNK)
    worker.outbox.add(END_B)

    def turn() -> Iterator[Any]:
        for item in worker.session.data_to_send(0.0):
            worker.logs.write(A, b"y\n" * MAX_CHUNK)
            yield shown(item)

    assert types(list(turn())) == ["task_log", "task_completed"]
    assert worker.session.next_timer() <= 0.0  # there is more
    assert types(list(turn())) == ["task_log"]
    worker.session.receive_pong(b"1", 0.0)
    assert types(list(turn())) == ["task_log", "ping"]


def test_events_print_no_payload() -> None:
    frame = assignment_frame(env_vars={"TOKEN": CANARY}, additional_oz_args=[CANARY])
    assert CANARY not in repr(Worker().session.receive_text(frame, 0.0))


@pytest.mark.parametrize("capabilities", [PUBLIC, ALL])
def test_every_sent_text_names_its_execution(
    capabilities: frozenset[Capability],
) -> None:
    worker = Worker(capabilities)
    worker.session.reject(A, "at_capacity")
    worker.outbox.add(Claim(B))
    worker.logs.write(B, b"output")
    worker.outbox.add(END_B)
    sent = [(item.kind, item.key) for item in worker.session.data_to_send(0.0) if isinstance(item, Text)]
    about = {"worker_hello": None, "task_rejected": A}
    assert len(sent) >= 3
    assert sent == [(kind, about.get(kind, B)) for kind, _ in sent]
