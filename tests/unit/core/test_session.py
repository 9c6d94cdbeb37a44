import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.core.assignment import Assignment
from oz_agent_worker.core.logstream import MAX_PIECE, LogBook
from oz_agent_worker.core.outbox import Claim, Outbox
from oz_agent_worker.core.outcome import FailureReason, failed, succeeded
from oz_agent_worker.core.report import ExecutionKey, TerminalReport
from oz_agent_worker.core.session import (
    Assigned,
    AssignmentRefused,
    CancellationRequested,
    Delivered,
    FrameIgnored,
    Ping,
    Session,
    Text,
)
from oz_agent_worker.core.wire import Capability, RunningExecution, WorkerHello

from .frames import assignment_frame

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b2")
END_A, END_B = TerminalReport(A, succeeded("done")), TerminalReport(B, succeeded("done"))
HELLO = WorkerHello(
    worker_id="w",
    version="1.0",
    backend="direct",
    max_concurrent_tasks=2,
    executions=[RunningExecution(task_id="a", execution_id="a")],
)
ALL = frozenset(Capability)
PUBLIC: frozenset[Capability] = frozenset()
CANARY = "canary-0d4e"


class Worker:
    """An outbox and a book of logs, with the connection that they leave by."""

    def __init__(self, capabilities: frozenset[Capability] = PUBLIC, now: float = 0.0) -> None:
        self.outbox = Outbox()
        self.logs = LogBook()
        self.session = self.connect(capabilities, now)

    def connect(self, capabilities: frozenset[Capability], now: float = 0.0) -> Session:
        self.session = Session(
            self.outbox, self.logs, worker_id="w", capabilities=capabilities, hello=HELLO, now=now
        )
        return self.session

    def frames(self, now: float = 0.0) -> list[Any]:
        """What goes out: frames as their JSON documents, pings as their payload."""
        return [_shown(item) for item in self.session.data_to_send(now)]


def _shown(item: Text | Ping) -> Any:
    if isinstance(item, Ping):
        return item.payload
    document = json.loads(item.text)
    assert document["type"] == item.kind
    return document


# ------------------------------------------------------------------------------------- in


def test_an_assignment() -> None:
    event = Worker().session.receive_text(assignment_frame(), 0.0)
    assert event == Assigned(Assignment(task_id="run-1", execution_id="exec-1", agent_task_id="run-1"))


def test_a_cancellation() -> None:
    frame = '{"type":"task_cancellation","data":{"task_id":"run-1"}}'
    assert Worker().session.receive_text(frame, 0.0) == CancellationRequested("run-1")


@pytest.mark.parametrize(
    ("data", "key", "why"),
    [
        (
            '{"task_id":"t"}',
            ExecutionKey("t", "t"),
            "`task` is missing: the assignment says nothing of what to run",
        ),
        (
            '{"task_id":"t","execution_id":"e","task":null}',
            ExecutionKey("t", "e"),
            "`task` is missing: the assignment says nothing of what to run",
        ),
        (
            '{"task_id":"t","execution_id":"e","task":{"owner":5}}',
            ExecutionKey("t", "e"),
            "Expected `object | null`, got `int` - at `$.task.owner`",
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
            '{"type":"task_assignment","data":{"task_id":"ä ","task":{},"execution_id":7}}',
            "task_assignment",
            "Expected `str | null`, got `int` - at `$.execution_id`",
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


def _types(items: list[Any]) -> list[Any]:
    return [item["type"] if isinstance(item, dict) else "ping" for item in items]


def test_output_never_overtakes_a_claim_that_came_up_while_something_was_written() -> None:
    worker = Worker(frozenset({Capability.LOGS}))
    worker.outbox.add(Claim(A))
    writing = worker.session.data_to_send(0.0)
    written = [_shown(next(writing))]
    worker.outbox.add(Claim(B))
    worker.logs.write(B, b"output of b")
    written += [_shown(item) for item in writing]
    assert _types(written) == ["task_claimed", "ping"]
    assert _types(worker.frames()) == ["task_claimed", "task_log"]


def test_a_report_never_overtakes_its_output() -> None:
    worker = Worker(frozenset({Capability.LOGS}))
    worker.outbox.add(Claim(A))
    worker.logs.write(A, b"x" * (3 * MAX_PIECE))
    worker.outbox.add(END_A)
    assert _types(worker.frames()) == ["task_claimed", *["task_log"] * 3, "task_completed", "ping"]


def test_a_task_that_prints_without_end_keeps_nobody_waiting() -> None:
    worker = Worker(frozenset({Capability.LOGS}))
    worker.outbox.add(Claim(A))
    worker.frames()
    worker.logs.write(A, b"y\n" * MAX_PIECE)
    worker.outbox.add(END_B)

    def turn() -> Iterator[Any]:
        for item in worker.session.data_to_send(0.0):
            worker.logs.write(A, b"y\n" * MAX_PIECE)
            yield _shown(item)

    assert _types(list(turn())) == ["task_log", "task_completed"]
    assert worker.session.next_timer() <= 0.0  # there is more
    assert _types(list(turn())) == ["task_log"]
    worker.session.receive_pong(b"1", 0.0)
    assert _types(list(turn())) == ["task_log", "ping"]


# ----------------------------------------------------------------------------------- time


def test_the_worker_pings_every_30_seconds() -> None:
    worker = Worker(PUBLIC, now=100.0)
    assert worker.session.next_timer() == 130.0
    assert worker.frames(now=129.9) == []
    assert worker.frames(now=130.0) == [b"1"]
    assert worker.frames(now=130.0) == []
    assert worker.session.next_timer() == 160.0
    worker.session.receive_pong(b"1", 130.1)
    assert worker.session.next_timer() == 160.0
    assert worker.frames(now=160.5) == [b"2"]


def test_a_ping_that_shows_delivery_counts() -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(Claim(A))
    assert worker.frames(now=20.0)[-1] == b"1"
    assert worker.frames(now=30.0) == []
    assert worker.frames(now=50.0) == [b"2"]


def test_what_goes_out_while_a_ping_is_unanswered_waits_for_its_pong() -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(Claim(A))
    assert _types(worker.frames()) == ["task_claimed", "ping"]
    worker.outbox.add(END_A)
    assert _types(worker.frames(now=1.0)) == ["task_completed"]
    worker.outbox.add(Claim(B))
    worker.outbox.add(END_B)
    assert _types(worker.frames(now=2.0)) == ["task_claimed", "task_completed"]
    assert worker.session.next_timer() == 30.0  # nothing to do but to wait
    assert worker.session.receive_pong(b"1", 3.0) == Delivered(())
    assert worker.session.next_timer() <= 3.0
    assert worker.frames(now=3.0) == [b"2"]
    assert worker.session.receive_pong(b"2", 4.0) == Delivered((END_A, END_B))
    assert worker.session.next_timer() == 33.0
    assert worker.frames(now=4.0) == []


def test_a_ping_that_stays_unanswered_is_repeated_at_the_interval() -> None:
    worker = Worker(PUBLIC)
    worker.outbox.add(END_A)
    assert worker.frames()[-1] == b"1"
    worker.outbox.add(END_B)
    worker.frames(now=1.0)
    assert worker.session.next_timer() == 30.0
    assert worker.frames(now=30.0) == [b"2"]
    assert worker.session.receive_pong(b"1", 31.0) == Delivered((END_A,))
    assert worker.session.receive_pong(b"2", 31.0) == Delivered((END_B,))  # one for the last ping will do


def test_a_burst_takes_a_ping_a_round_trip() -> None:
    worker = Worker(PUBLIC)
    written: list[Any] = []
    for number in range(1000):
        worker.outbox.add(Claim(ExecutionKey(f"run-{number}", "e")))
        if number % 20 == 19:
            worker.session.receive_pong(str(number // 20).encode(), number / 1000)
        written += worker.frames(now=number / 1000)
    assert _types(written).count("task_claimed") == 1000
    assert _types(written).count("ping") == 50


def test_a_report_that_is_not_acknowledged_goes_out_again_30_seconds_after_it_was_read() -> None:
    worker = Worker(frozenset({Capability.ACK}))
    worker.outbox.add(Claim(A))
    worker.outbox.add(END_A)
    _, report, _ = worker.frames()
    assert worker.session.next_timer() == 30.0  # the ping's: what was not read is on its way
    worker.session.receive_pong(b"1", 5.0)
    assert worker.frames(now=30.0) == [b"2"]
    worker.session.receive_pong(b"2", 30.1)
    assert worker.session.next_timer() == 35.0
    assert worker.frames(now=34.9) == []
    assert worker.frames(now=35.0) == [report, b"3"]
    worker.session.receive_pong(b"3", 36.0)
    assert worker.frames(now=65.9) == [b"4"]
    worker.session.receive_pong(b"4", 65.9)
    assert worker.frames(now=66.0) == [report, b"5"]
    ack = json.dumps({"type": "ack", "data": {"ack_id": report["data"]["ack_id"]}})
    assert worker.session.receive_text(ack, 67.0) == Delivered((END_A,))
    worker.session.receive_pong(b"5", 67.0)
    assert worker.session.next_timer() == 96.0
    assert worker.frames(now=95.9) == []


def test_there_is_no_time_to_wait_while_something_is_due() -> None:
    worker = Worker(PUBLIC, now=50.0)
    worker.session.reject(A, "at_capacity")
    assert worker.session.next_timer() <= 50.0
    worker.frames(now=50.0)
    assert worker.session.next_timer() == 80.0
    worker.outbox.add(Claim(A))
    assert worker.session.next_timer() <= 50.0


def test_silence_for_60_seconds_is_death() -> None:
    session = Worker(PUBLIC, now=10.0).session
    assert not session.is_dead(69.9)
    assert session.is_dead(70.0)


@pytest.mark.parametrize("sign", ["frame", "garbage", "pong", "ping"])
def test_any_sign_of_life_counts(sign: str) -> None:
    session = Worker(PUBLIC, now=0.0).session
    match sign:
        case "frame":
            session.receive_text('{"type":"task_cancellation","data":{"task_id":"a"}}', 50.0)
        case "garbage":
            session.receive_text(b"\xff", 50.0)
        case "pong":
            session.receive_pong(b"", 50.0)
        case "ping":
            session.receive_other(50.0)
    assert not session.is_dead(109.9)
    assert session.is_dead(110.0)


def test_death_comes_before_the_next_ping_where_it_is_nearer() -> None:
    session = Session(
        Outbox(),
        LogBook(),
        worker_id="w",
        capabilities=PUBLIC,
        hello=HELLO,
        now=0.0,
        ping_interval=30.0,
        dead_after=10.0,
    )
    assert session.next_timer() == 10.0


def test_events_print_no_payload() -> None:
    frame = assignment_frame(env_vars={"TOKEN": CANARY}, additional_oz_args=[CANARY])
    assert CANARY not in repr(Worker().session.receive_text(frame, 0.0))
