"""What the session does at which time: pings, repeats, death."""

import json
from typing import Any

import pytest

from oz_agent_worker.protocol.frames import Capability
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.protocol.session import Delivered, Session

from .sessions import END_A, END_B, HELLO, PUBLIC, A, B, Worker, types


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
    assert types(worker.frames()) == ["task_claimed", "ping"]
    worker.outbox.add(END_A)
    assert types(worker.frames(now=1.0)) == ["task_completed"]
    worker.outbox.add(Claim(B))
    worker.outbox.add(END_B)
    assert types(worker.frames(now=2.0)) == ["task_claimed", "task_completed"]
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
    assert types(written).count("task_claimed") == 1000
    assert types(written).count("ping") == 50


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
        LogBuffers(),
        worker_id="w",
        capabilities=PUBLIC,
        hello=HELLO,
        now=0.0,
        ping_interval=30.0,
        dead_after=10.0,
    )
    assert session.next_timer() == 10.0
