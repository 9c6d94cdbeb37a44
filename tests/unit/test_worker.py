import asyncio
import gc
import logging
import weakref

import pytest

from oz_agent_worker import __version__
from oz_agent_worker.backends.base import LaunchError
from oz_agent_worker.core.outbox import Claim
from oz_agent_worker.core.outcome import (
    FailurePhase,
    FailureReason,
    Outcome,
    cancelled,
    failed,
    succeeded,
)
from oz_agent_worker.core.report import ExecutionKey, TerminalReport
from oz_agent_worker.core.session import Assigned, AssignmentRefused, Delivered, FrameIgnored
from oz_agent_worker.core.wire import RunningExecution, WorkerHello

from .scripted import Bench, ScriptedBackend, Step, assignment, settle

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")
BROKE = failed(FailureReason.CONTAINER_EXIT, "it broke", exit_code=1)
UNEXPECTED = failed(FailureReason.UNKNOWN, "The worker failed unexpectedly: RuntimeError")
SHUT_DOWN = failed(FailureReason.GRACEFUL_SHUTDOWN, "The worker was shut down while the task ran")


def _closed(bench: Bench) -> bool:
    """Whether the worker has let go of everything."""
    return bench.worker.active == 0 and bench.worker.hello().executions == [] and len(bench.logs) == 0


async def _finish(bench: Bench) -> None:
    """Deliver what is due, and see that nothing is left in the worker's hands."""
    bench.sent()
    bench.deliver()
    await settle()
    assert _closed(bench)


# ------------------------------------------------------------------------- the plain life


async def test_a_task_is_claimed_when_it_stands_reported_when_it_ends_and_released_when_that_is_known() -> (
    None
):
    bench = Bench()
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    assert (bench.backend.launched, bench.sent(), bench.worker.active) == ([A], [], 1)

    step.end()
    await settle()
    execution = bench.backend.executions["a"]
    assert bench.sent() == [Claim(A)]

    execution.ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [TerminalReport(A, succeeded())]
    assert bench.worker.active == 0  # the slot is free; the result is not known to have arrived
    assert execution.releases == []

    bench.deliver()
    await settle()
    assert execution.releases == [succeeded()]
    assert execution.stops == []
    assert _closed(bench)


async def test_what_is_to_be_sent_wakes_the_link() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    claimed = bench.wakes
    assert claimed > 0
    bench.backend.executions["a"].ended.set_result(BROKE)
    await settle()
    assert bench.wakes > claimed
    await _finish(bench)


@pytest.mark.parametrize("outcome", [succeeded(), BROKE, cancelled()])
async def test_an_outcome_is_reported_as_it_is(outcome: Outcome) -> None:
    bench = Bench()
    bench.assign("a", "e1")
    await settle()
    bench.backend.executions["a"].ended.set_result(outcome)
    await settle()
    key = ExecutionKey("a", "e1")
    assert bench.sent() == [Claim(key), TerminalReport(key, outcome)]
    await _finish(bench)


async def test_the_hello_names_what_is_in_hand_until_it_is_delivered() -> None:
    bench = Bench(capacity=3)
    bench.assign("a")
    bench.assign("b", "e2")
    await settle()
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    assert bench.worker.hello() == WorkerHello(
        worker_id="w",
        version=__version__,
        backend="scripted",
        max_concurrent_tasks=3,
        executions=[
            RunningExecution(task_id="a", execution_id="a"),
            RunningExecution(task_id="b", execution_id="e2"),
        ],
    )
    bench.sent()
    bench.deliver()
    await settle()
    assert bench.worker.hello().executions == [RunningExecution(task_id="b", execution_id="e2")]
    bench.backend.executions["b"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


# ----------------------------------------------------------------------- taking and leaving


async def test_at_capacity_a_task_is_rejected_and_a_freed_slot_is_used() -> None:
    bench = Bench(capacity=1)
    bench.assign("a")
    bench.assign("b")
    await settle()
    assert bench.rejections == [(B, "at_capacity")]
    assert bench.backend.launched == [A]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    bench.assign("b")  # the first one's report is not even delivered
    await settle()
    assert bench.backend.launched == [A, B]
    bench.backend.executions["b"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_zero_is_no_limit() -> None:
    bench = Bench(capacity=0)
    for number in range(50):
        bench.assign(f"t{number}")
    await settle()
    assert (bench.worker.active, bench.rejections) == (50, [])
    for execution in bench.backend.executions.values():
        execution.ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_a_second_assignment_of_the_same_execution_is_ignored_as_long_as_it_is_in_hand() -> None:
    bench = Bench(capacity=1)
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    bench.assign("a")
    await settle()
    step.end()
    await settle()
    bench.assign("a")
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    bench.assign("a")
    await settle()
    assert bench.backend.launched == [A]
    assert bench.rejections == []
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await _finish(bench)


async def test_another_execution_of_the_same_run_is_another_task() -> None:
    bench = Bench()
    bench.assign("a", "e1")
    await settle()
    bench.backend.executions["a"].ended.set_result(succeeded())
    bench.assign("a", "e2")
    await settle()
    assert bench.backend.launched == [ExecutionKey("a", "e1"), ExecutionKey("a", "e2")]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_a_follow_up_without_a_name_waits_until_the_last_one_is_cleaned_up() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.release_step = Step()
    execution.ended.set_result(succeeded())
    await settle()
    bench.sent()
    bench.deliver()
    await settle()
    bench.assign("a")
    assert bench.rejections == [(A, "still_cleaning_up")]
    execution.release_step.end()
    await settle()
    bench.assign("a")
    await settle()
    assert bench.backend.launched == [A, A]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_an_assignment_that_cannot_be_carried_out_is_claimed_and_fails() -> None:
    bench = Bench()
    bench.worker.on_event(AssignmentRefused(A, "`task` is missing"))
    await settle()
    outcome = failed(
        FailureReason.AGENT_INVOCATION,
        "The assignment cannot be carried out: `task` is missing",
        phase=FailurePhase.ASSIGNMENT,
    )
    assert bench.sent() == [Claim(A), TerminalReport(A, outcome)]
    assert bench.backend.launched == []
    await _finish(bench)


async def test_a_value_that_no_program_can_be_given_fails_the_task() -> None:
    bench = Bench()
    bench.worker.on_event(Assigned(assignment("a", extra_args=("x\0y",))))
    await settle()
    outcome = failed(
        FailureReason.AGENT_INVOCATION,
        "The assignment cannot be carried out: a value holds a NUL character, which no argument can have",
        phase=FailurePhase.ASSIGNMENT,
    )
    assert bench.sent() == [Claim(A), TerminalReport(A, outcome)]
    assert bench.backend.launched == []
    await _finish(bench)


async def test_a_broken_second_assignment_of_a_running_task_leaves_it_alone() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    bench.worker.on_event(AssignmentRefused(A, "broken"))
    await settle()
    assert bench.sent() == [Claim(A)]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_a_frame_that_is_ignored_is_logged_by_kind_and_size(caplog: pytest.LogCaptureFixture) -> None:
    Bench().worker.on_event(FrameIgnored("odd", 12, "unknown type"))
    assert caplog.messages == ["Ignored a frame of type odd and 12 bytes: unknown type"]


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
    await _finish(bench)


async def test_a_task_that_is_cancelled_before_it_stands_is_stopped_as_soon_as_it_does() -> None:
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
    await _finish(bench)


async def test_a_cancellation_right_behind_its_assignment_counts() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    bench.assign("a")
    bench.cancel("a")
    await settle()
    assert bench.backend.executions["a"].stops == ["cancellation requested"]
    assert bench.sent() == [Claim(A), TerminalReport(A, cancelled())]
    await _finish(bench)


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
    await _finish(bench)


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
    await _finish(bench)


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
    await _finish(bench)


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
    await _finish(bench)


# ------------------------------------------------------------------------ when things break


async def test_a_launch_that_fails_for_the_task_s_own_reasons_fails_the_task() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = Step(error=LaunchError("no such image", BROKE))
    bench.assign("a")
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, BROKE)]
    assert bench.rejections == []
    await _finish(bench)


async def test_a_launch_that_fails_for_the_backend_s_reasons_gives_the_task_back() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = Step(error=LaunchError("no cluster"))
    bench.assign("a")
    await settle()
    assert bench.sent() == []
    assert bench.rejections == [(A, "backend_unavailable")]
    assert _closed(bench)
    bench.backend.launch_steps.clear()
    bench.assign("a")
    await settle()
    assert bench.sent() == [Claim(A)]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_an_unexpected_error_of_launch() -> None:
    bench = Bench(capacity=1)
    bench.backend.launch_steps["a"] = Step(error=RuntimeError("bug"))
    bench.assign("a")
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, UNEXPECTED)]
    await _finish(bench)


async def test_an_unexpected_error_of_wait_ends_the_work_and_the_task() -> None:
    bench = Bench(capacity=1)
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.ended.set_exception(RuntimeError("bug"))
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, UNEXPECTED)]
    assert execution.stops == ["the worker lost sight of it"]
    await _finish(bench)
    assert execution.releases == [UNEXPECTED]


async def test_an_unexpected_error_of_stop_leaves_the_task_to_its_own_end() -> None:
    bench = Bench(capacity=1)
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.stop_step = Step(error=RuntimeError("bug"))
    bench.cancel("a")
    await settle()
    assert bench.sent() == [Claim(A)]
    execution.ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [TerminalReport(A, succeeded())]
    await _finish(bench)


async def test_an_error_of_a_stop_that_waited_for_the_launch_is_harmless_too() -> None:
    bench = Bench(capacity=1)
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    bench.cancel("a")

    bench.backend.stop_error = RuntimeError("bug")
    step.end()
    await settle()
    execution = bench.backend.executions["a"]
    assert execution.stops == ["cancellation requested"]
    execution.ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await _finish(bench)


@pytest.mark.parametrize("error", [RuntimeError("bug"), LaunchError("odd"), OSError(28, "disk full")])
async def test_an_error_of_release_is_harmless(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    bench.backend.executions["a"].release_step = Step(error=error)
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    assert bench.sent() == [Claim(A), TerminalReport(A, succeeded())]
    await _finish(bench)
    assert f"Task a: cleaning up failed: {error}" in caplog.messages


async def test_a_delivery_of_what_is_not_in_hand_is_ignored() -> None:
    Bench().worker.on_event(Delivered((TerminalReport(A, succeeded()),)))


# ----------------------------------------------------------------------------------- output


def _pieces(bench: Bench) -> list[str]:
    pieces = [bench.logs.take(key, 1) for key in bench.logs.due()]
    return [piece.text for piece in pieces if piece is not None]


async def test_output_follows_the_claim() -> None:
    bench = Bench()
    bench.logs.reset(wanted=True)
    bench.backend.early_output = b"early "
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    assert _pieces(bench) == []
    step.end()
    await settle()
    assert bench.sent() == [Claim(A)]
    bench.backend.executions["a"].output.write(b"later \xe2")
    assert _pieces(bench) == ["early later "]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    assert _pieces(bench) == ["\ufffd"]
    await _finish(bench)


async def test_output_after_the_end_is_dropped() -> None:
    bench = Bench()
    bench.logs.reset(wanted=True)
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    execution.ended.set_result(succeeded())
    await settle()
    execution.output.write(b"too late")
    assert _pieces(bench) == []
    await _finish(bench)
    execution.output.write(b"much too late")
    assert len(bench.logs) == 0


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_backend_can_ask_whether_output_is_wanted(wanted: bool) -> None:
    bench = Bench()
    bench.logs.reset(wanted=wanted)
    bench.assign("a")
    await settle()
    execution = bench.backend.executions["a"]
    assert execution.output.wanted is wanted
    execution.ended.set_result(succeeded())
    await settle()
    await _finish(bench)


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


async def test_the_grace_ends_a_shutdown_whose_reports_nobody_takes(caplog: pytest.LogCaptureFixture) -> None:
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


# ----------------------------------------------------------------------------------- memory


class Large(str):
    """A text whose end of life can be seen."""

    __slots__ = ("__weakref__",)


async def test_what_launched_a_task_is_not_held_while_it_runs() -> None:
    bench = Bench()
    title = Large("x" * 1000)
    held = weakref.ref(title)
    bench.worker.on_event(Assigned(assignment("a", title=title)))
    del title
    await settle()
    gc.collect()
    assert bench.worker.active == 1
    assert held() is None
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await _finish(bench)


async def test_what_failed_to_launch_is_not_held_while_its_report_waits() -> None:
    bench = Bench()
    bench.backend.launch_steps["a"] = Step(error=LaunchError("no such image", BROKE))
    title = Large("x" * 1000)
    held = weakref.ref(title)
    bench.worker.on_event(Assigned(assignment("a", title=title)))
    del title
    await settle()
    bench.backend.launch_steps.clear()  # the error holds its traceback, and that the spec
    gc.collect()
    assert bench.outbox.unreported == 1
    assert held() is None
    await _finish(bench)


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    canary = "canary-77ab"
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    bench.backend.launch_steps["a"] = Step(error=RuntimeError("bug"))
    bench.worker.on_event(Assigned(assignment("a", extra_args=(canary,))))
    await settle()
    await _finish(bench)
    assert canary not in caplog.text
