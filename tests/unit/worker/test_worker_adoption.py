"""Executions that an earlier worker left: followed, counted, reported, released like any other."""

import pytest

from oz_agent_worker.protocol.outbox import Claim
from oz_agent_worker.protocol.outcome import cancelled, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.worker.events import EventKind, TaskEvent

from .scripted import Bench, settle

A = ExecutionKey("a", "a")


async def test_what_is_found_is_claimed_followed_reported_and_released() -> None:
    bench = Bench()
    execution = bench.find("a")
    await settle()
    assert bench.sent() == [Claim(A)]
    execution.ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [TerminalReport(A, succeeded())]
    assert execution.releases == []
    bench.deliver()
    await settle()
    assert execution.releases == [succeeded()]
    assert bench.closed


async def test_what_is_found_takes_a_slot_even_where_there_is_none() -> None:
    bench = Bench(capacity=1)
    executions = [bench.find("a"), bench.find("b")]
    bench.assign("c")
    await settle()
    assert bench.worker.active == 2
    assert bench.rejections == [(ExecutionKey("c", "c"), "at_capacity")]
    for execution in executions:
        execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_the_hello_names_what_was_found() -> None:
    bench = Bench()
    bench.backend.instance = "process/host/1"
    execution = bench.find("a", "a-2")
    hello = bench.worker.hello()
    assert hello.instance == "process/host/1"
    assert [(e.task_id, e.execution_id) for e in hello.executions or ()] == [("a", "a-2")]
    execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()


@pytest.mark.parametrize("ended", [True, False])
async def test_an_adoption_event_says_whether_the_execution_had_ended(ended: bool) -> None:
    bench = Bench()
    bench.find("a", ended=ended).ended.set_result(succeeded())
    assert bench.worker_events[0] == TaskEvent(EventKind.ADOPTED, A, already_ended=ended)
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())], "it is reported all the same"
    await bench.finish()


async def test_an_execution_already_held_is_not_adopted_again() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    again = bench.find("a")
    await settle()
    assert bench.worker.active == 1
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await bench.finish()
    assert again.releases == []


async def test_an_assignment_of_what_was_found_is_ignored() -> None:
    bench = Bench()
    execution = bench.find("a")
    bench.assign("a")
    await settle()
    assert bench.backend.launched == []
    execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_a_worker_that_leaves_takes_nothing_over() -> None:
    bench = Bench()
    await bench.worker.drain(0)
    bench.find("a")
    await settle()
    assert bench.closed


async def test_a_cancellation_may_mean_one_execution_of_a_task() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    first, second = bench.find("a", "a-1"), bench.find("a", "a-2")
    await settle()
    bench.cancel("a", "a-1")
    await settle()
    assert first.stops == ["cancellation requested"]
    assert second.stops == []
    bench.cancel("a")
    await settle()
    assert len(second.stops) == 1
    await bench.finish()
