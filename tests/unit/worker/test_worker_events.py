"""The worker's events about each task, and their order."""

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.protocol.session import Assigned, AssignmentRefused
from oz_agent_worker.worker.backends.base import LaunchError
from oz_agent_worker.worker.events import EventKind, TaskEvent

from .scripted import Bench, Step, assignment, settle

KEY = ExecutionKey("t", "t")


async def test_a_task_that_succeeds() -> None:
    bench = Bench()
    bench.worker.on_event(Assigned(assignment("t", created_at="2026-01-31T12:00:00Z")))
    await settle()
    bench.backend.executions["t"].ended.set_result(succeeded())
    await settle()
    assert bench.worker_events == [
        TaskEvent(EventKind.ASSIGNED, KEY, "2026-01-31T12:00:00Z"),
        TaskEvent(EventKind.STARTED, KEY),
        TaskEvent(EventKind.CLAIMED, KEY),
        TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()),
    ]
    await bench.finish()
    assert bench.worker_events[4:] == [TaskEvent(EventKind.RELEASED, KEY)]


async def test_a_cancellation() -> None:
    bench = Bench()
    bench.backend.on_stop = cancelled()
    bench.assign("t")
    await settle()
    bench.cancel("t")
    await settle()
    assert bench.worker_events[-2:] == [
        TaskEvent(EventKind.CANCEL_REQUESTED, KEY),
        TaskEvent(EventKind.ENDED, KEY, outcome=cancelled()),
    ]
    await bench.finish()


async def test_a_worker_without_a_slot() -> None:
    bench = Bench(capacity=1)
    bench.assign("t")
    bench.assign("u")
    await settle()
    assert TaskEvent(EventKind.REJECTED, ExecutionKey("u", "u"), "at_capacity") in bench.worker_events
    assert TaskEvent(EventKind.ASSIGNED, ExecutionKey("u", "u")) not in bench.worker_events
    bench.backend.executions["t"].ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_a_backend_that_cannot_be_reached_gives_the_task_back() -> None:
    bench = Bench()
    bench.backend.launch_steps["t"] = Step(error=LaunchError("away"))
    bench.assign("t")
    await settle()
    assert bench.worker_events == [
        TaskEvent(EventKind.ASSIGNED, KEY),
        TaskEvent(EventKind.REJECTED, KEY, "backend_unavailable"),
        TaskEvent(EventKind.RELEASED, KEY),
    ]


async def test_an_assignment_that_cannot_be_carried_out() -> None:
    bench = Bench()
    bench.worker.on_event(AssignmentRefused(KEY, "no"))
    await settle()
    why = "The assignment cannot be carried out: no"
    outcome = failed(FailureReason.AGENT_INVOCATION, why, phase=FailurePhase.ASSIGNMENT)
    assert bench.worker_events == [
        TaskEvent(EventKind.ASSIGNED, KEY),
        TaskEvent(EventKind.CLAIMED, KEY),
        TaskEvent(EventKind.ENDED, KEY, outcome=outcome),
    ]
    await bench.finish()


async def test_what_an_earlier_worker_left() -> None:
    bench = Bench()
    execution = bench.find("t")
    await settle()
    assert bench.worker_events == [
        TaskEvent(EventKind.ADOPTED, KEY),
        TaskEvent(EventKind.CLAIMED, KEY),
        TaskEvent(EventKind.STARTED, KEY),
    ]
    execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()


async def test_debris_that_stays() -> None:
    bench = Bench()
    bench.assign("t")
    await settle()
    execution = bench.backend.executions["t"]
    execution.release_step = Step(error=OSError("no"))
    execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()
    assert bench.worker_events[-2:] == [
        TaskEvent(EventKind.CLEANUP_FAILED, KEY),
        TaskEvent(EventKind.RELEASED, KEY),
    ]
