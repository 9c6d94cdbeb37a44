"""A task's life in the worker's hands: taken, claimed, run, reported, released."""

import gc
import logging
import weakref

import pytest

from oz_agent_worker import __version__
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.frames import WorkerHello
from oz_agent_worker.protocol.outbox import Claim
from oz_agent_worker.protocol.outcome import FailurePhase, Outcome, cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import Assigned, AssignmentRefused, FrameIgnored
from oz_agent_worker.worker.backends.base import LaunchError

from .scripted import Bench, Step, assignment, settle

A, B = ExecutionKey("a", "a"), ExecutionKey("b", "b")
BROKE = failed(FailureReason.CONTAINER_EXIT, "it broke", exit_code=1)
UNEXPECTED = failed(FailureReason.UNKNOWN, "The worker failed unexpectedly: RuntimeError")
SHUT_DOWN = failed(FailureReason.GRACEFUL_SHUTDOWN, "The worker was shut down while the task ran")


# ------------------------------------------------------------------------- the plain life


async def test_a_task_is_claimed_when_created_reported_when_ended_and_released_when_delivered() -> None:
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
    assert bench.closed


async def test_what_is_to_be_sent_wakes_the_link() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    claimed = bench.wakes
    assert claimed > 0
    bench.backend.executions["a"].ended.set_result(BROKE)
    await settle()
    assert bench.wakes > claimed
    await bench.finish()


@pytest.mark.parametrize("outcome", [succeeded(), BROKE, cancelled()])
async def test_an_outcome_is_reported_as_it_is(outcome: Outcome) -> None:
    bench = Bench()
    bench.assign("a", "e1")
    await settle()
    bench.backend.executions["a"].ended.set_result(outcome)
    await settle()
    key = ExecutionKey("a", "e1")
    assert bench.sent() == [Claim(key), TerminalReport(key, outcome)]
    await bench.finish()


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
            ExecutionKey(task_id="a", execution_id="a"),
            ExecutionKey(task_id="b", execution_id="e2"),
        ],
    )
    bench.sent()
    bench.deliver()
    await settle()
    assert bench.worker.hello().executions == [ExecutionKey(task_id="b", execution_id="e2")]
    bench.backend.executions["b"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


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
    await bench.finish()


async def test_zero_is_no_limit() -> None:
    bench = Bench(capacity=0)
    for number in range(50):
        bench.assign(f"t{number}")
    await settle()
    assert (bench.worker.active, bench.rejections) == (50, [])
    for execution in bench.backend.executions.values():
        execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()


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
    await bench.finish()


async def test_another_execution_of_a_run_is_taken_once_the_first_one_s_end_is_delivered() -> None:
    """The public protocol's frames name the run alone: the first one's end must not count for the second."""
    bench = Bench()
    bench.assign("a", "e1")
    await settle()
    bench.assign("a", "e2")
    execution = bench.backend.executions["a"]
    execution.release_step = Step()
    execution.ended.set_result(succeeded())
    await settle()
    bench.assign("a", "e2")
    assert bench.rejections == [(ExecutionKey("a", "e2"), "still_cleaning_up")] * 2
    bench.sent()
    bench.deliver()
    await settle()
    bench.assign("a", "e2")
    await settle()
    assert bench.backend.launched == [ExecutionKey("a", "e1"), ExecutionKey("a", "e2")]
    execution.release_step.end()
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_the_hello_names_what_is_claimed() -> None:
    """A control plane takes it for a claim, and a launch may fail."""
    bench = Bench()
    step = bench.backend.launch_steps["a"] = Step()
    bench.assign("a")
    await settle()
    assert not bench.worker.hello().executions
    step.end()
    await settle()
    assert [e.task_id for e in bench.worker.hello().executions or ()] == ["a"]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


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
    await bench.finish()


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
    await bench.finish()


async def test_a_value_that_no_program_can_be_given_fails_the_task() -> None:
    bench = Bench()
    bench.worker.on_event(Assigned(assignment("a", extra_args=("x\0y",))))
    await settle()
    outcome = failed(
        FailureReason.AGENT_INVOCATION,
        "The assignment cannot be carried out: a value has a NUL character, which an argument cannot have",
        phase=FailurePhase.ASSIGNMENT,
    )
    assert bench.sent() == [Claim(A), TerminalReport(A, outcome)]
    assert bench.backend.launched == []
    await bench.finish()


async def test_a_broken_second_assignment_of_a_running_task_leaves_it_alone() -> None:
    bench = Bench()
    bench.assign("a")
    await settle()
    bench.worker.on_event(AssignmentRefused(A, "broken"))
    await settle()
    assert bench.sent() == [Claim(A)]
    bench.backend.executions["a"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_a_frame_that_is_ignored_is_logged_by_kind_and_size(caplog: pytest.LogCaptureFixture) -> None:
    Bench().worker.on_event(FrameIgnored("odd", 12, "unknown type"))
    assert caplog.messages == ["A frame of the control plane is ignored: type odd, 12 bytes: unknown type"]


async def test_k15_frames_that_are_ignored_for_ever_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    worker = Bench().worker
    for size in range(1000):
        worker.on_event(FrameIgnored("odd", size, "unknown type"))
    assert len(caplog.messages) == 2


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
    await bench.finish()


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
    await bench.finish()
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
    await bench.finish()


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
    await bench.finish()


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
    await bench.finish()


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    canary = "canary-77ab"
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    bench.backend.launch_steps["a"] = Step(error=RuntimeError("bug"))
    bench.worker.on_event(Assigned(assignment("a", extra_args=(canary,))))
    await settle()
    await bench.finish()
    assert canary not in caplog.text
