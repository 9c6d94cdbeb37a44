"""What ends a task from outside: its cancellation, and the worker's own shutdown."""

import asyncio
import gc

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outbox import Claim
from oz_agent_worker.protocol.outcome import cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.worker.backends.base import LaunchError

from .scripted import Bench, ScriptedBackend, Step, settle

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")
BROKE = failed(FailureReason.CONTAINER_EXIT, "it broke", exit_code=1)
UNEXPECTED = failed(FailureReason.UNKNOWN, "The worker failed unexpectedly: RuntimeError")
SHUT_DOWN = failed(FailureReason.GRACEFUL_SHUTDOWN, "The worker was shut down while the task ran")


# ----------------------------------------------------------------------------- cancellation


async def test_a_running_task_is_stopped() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    bench.assign("a")
    await settle()
    bench.cancel("a")
    await settle()
    assert bench.backend.executions["a"].stops == ["cancellation requested"]
    assert bench.sent() == [Claim(A), TerminalReport(A, cancelled())]
    await bench.finish()


async def test_a_task_cancelled_before_its_creation_is_stopped_right_after_it() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    bench.cancel("a")
    await settle()
    step.end()
    await settle()
    assert bench.backend.executions["a"].stops == ["cancellation requested"]
    assert bench.sent() == [Claim(A), TerminalReport(A, cancelled())]
    await bench.finish()


async def test_a_cancellation_right_behind_its_assignment_counts() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    bench.assign("a")
    bench.cancel("a")
    await settle()
    assert bench.backend.executions["a"].stops == ["cancellation requested"]
    assert bench.sent() == [Claim(A), TerminalReport(A, cancelled())]
    await bench.finish()


@pytest.mark.parametrize("error", [LaunchError("no cluster"), LaunchError("no image", BROKE)])
async def test_a_cancelled_task_whose_launch_fails_is_cancelled(error: LaunchError) -> None:
    bench = Bench()
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    bench.cancel("a")
    step.end(error)
    await settle()
    outcome = cancelled("Task was cancelled before it started")
    assert bench.sent() == [Claim(A), TerminalReport(A, outcome)]
    assert bench.rejections == []
    await bench.finish()


async def test_every_execution_of_a_cancelled_run_is_stopped_and_no_other() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    bench.assign("a", "e1")
    await settle()
    first = bench.backend.executions["a"]
    bench.assign("a", "e2")
    bench.assign("b")
    await settle()
    bench.cancel("a")
    await settle()
    assert len(first.stops) == len(bench.backend.executions["a"].stops) == 1
    assert bench.backend.executions["b"].stops == []
    bench.backend.executions["b"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_a_cancellation_after_the_end_or_of_a_stranger_does_nothing() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.ended.set_result(succeeded())
    await settle()
    bench.cancel("a")
    bench.cancel("nobody")
    await settle()
    assert execution.stops == []
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await bench.finish()


async def test_a_task_that_succeeds_despite_its_cancellation_succeeded() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    bench.cancel("a")
    bench.cancel("a")
    await settle()
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await bench.finish()


# --------------------------------------------------------------------------------- shutdown


async def _draining(bench: Bench, grace: float = 60.0) -> asyncio.Task[None]:
    task = asyncio.create_task(bench.worker.drain(grace))
    await settle()
    return task


async def test_a_shutdown_with_nothing_in_hand_is_immediate() -> None:
    await Bench().worker.drain(60.0)


async def test_a_shutdown_takes_no_more_tasks() -> None:
    bench = Bench()
    await bench.worker.drain(60.0)
    bench.assign("a")
    assert bench.rejections == [(A, "shutting_down")]


async def test_work_that_survives_is_left_alone_and_what_is_due_is_delivered() -> None:
    bench = Bench(ScriptedBackend(survives_worker=True))
    bench.assign("a")
    bench.assign("b")
    await settle()
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    drain = await _draining(bench)
    assert not drain.done()
    assert bench.sent() == [Claim(A), Claim(B), TerminalReport(A, succeeded())]
    bench.deliver()
    await settle()
    assert drain.done()
    assert bench.backend.executions["a"].releases == [succeeded()]
    survivor = bench.backend.executions["b"]
    assert (survivor.stops, survivor.releases, survivor.ended.done()) == ([], [], False)
    assert bench.sent() == []
    assert bench.worker.active == 0


async def test_work_that_dies_with_the_worker_is_ended_and_reported_as_that() -> None:
    bench = Bench(ScriptedBackend(survives_worker=False))
    bench.backend.on_stop = cancelled()
    step = bench.backend.launch_steps["b"] = Step()
    bench.assign("a")
    bench.assign("b")
    await settle()
    drain = await _draining(bench)
    step.end()
    await settle()
    assert bench.backend.executions["a"].stops == ["the worker shuts down"]
    assert bench.backend.executions["b"].stops == ["the worker shuts down"]
    assert bench.sent() == [Claim(A), TerminalReport(A, SHUT_DOWN), Claim(B), TerminalReport(B, SHUT_DOWN)]
    assert not drain.done()
    bench.deliver()
    await settle()
    assert drain.done()
    assert bench.backend.executions["a"].releases == [SHUT_DOWN]


async def test_a_task_that_ends_by_itself_during_the_shutdown_ended_by_itself() -> None:
    bench = Bench(ScriptedBackend(survives_worker=False))
    bench.assign("a")
    await settle()
    drain = await _draining(bench)
    bench.backend.executions["a"].ended.set_result(BROKE)
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, BROKE)]
    bench.deliver()
    await drain


async def test_a_cancellation_that_was_asked_for_before_the_shutdown_stays_one() -> None:
    bench = Bench(ScriptedBackend(survives_worker=False))
    bench.backend.on_stop = cancelled()
    bench.assign("a")
    await settle()
    bench.cancel("a")
    drain = await _draining(bench)
    assert bench.sent() == [Claim(A), TerminalReport(A, cancelled())]
    bench.deliver()
    await drain


@pytest.mark.parametrize("survives_worker", [True, False])
async def test_a_task_whose_launch_fails_during_the_shutdown_goes_back(survives_worker: bool) -> None:
    bench = Bench(ScriptedBackend(survives_worker=survives_worker))
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    drain = await _draining(bench)
    step.end(LaunchError("no cluster"))
    await settle()
    await drain
    assert bench.rejections == ([] if survives_worker else [(A, "backend_unavailable")])
    assert bench.sent() == []


async def test_the_grace_ends_a_shutdown_with_undelivered_reports(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await bench.worker.drain(0.0)
    assert "Shutting down with 1 report(s) undelivered" in caplog.messages
    assert bench.backend.executions["a"].releases == []
    assert bench.worker.active == 0


async def test_an_assignment_right_before_the_shutdown_leaves_no_loose_end() -> None:
    bench = Bench()
    bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await bench.worker.drain(0.0)
    gc.collect()  # a coroutine that never ran would warn here
    assert bench.worker.active == 0


async def test_a_cancellation_reaches_a_launch() -> None:
    """K5: a backend that tries to start the work again and again tries no more."""
    bench, step = Bench(), Step()
    bench.backend.launch_steps["t"] = step
    bench.assign("t")
    await settle()
    event = bench.backend.cancelled
    assert event is not None
    assert not event.is_set()
    bench.cancel("t")
    assert event.is_set()
    step.end(LaunchError("the task was cancelled before its Job was created"))
    await settle()
    (report,) = [item for _, item in bench.outbox.due(1) if isinstance(item, TerminalReport)]
    assert report.outcome == cancelled("Task was cancelled before it started")


async def test_what_hindered_a_launch_is_said_with_the_rejection() -> None:
    """K5: in the cluster's words."""
    bench = Bench()
    bench.backend.launch_steps["t"] = Step(error=LaunchError('failed calling webhook "a.b.c"'))
    bench.assign("t")
    await settle()
    assert bench.messages == ['failed calling webhook "a.b.c"']
