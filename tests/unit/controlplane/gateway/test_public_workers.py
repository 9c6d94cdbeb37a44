"""Public workers, which say no hello: what a break of the connection and a cancellation mean for their runs.

A played public worker claims once, before it starts, and sends nothing about the task until its end.
"""

import pytest

from oz_agent_worker.controlplane.gateway.connections import WorkerConnection
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.protocol.frames import (
    ExecutionKey,
    TaskAssignment,
    TaskCancellation,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
)
from tests.unit.controlplane.dialogue import GRACE, claimed_by, state
from tests.unit.controlplane.plane import Plane, assigned, heard
from tests.unit.controlplane.store.support import PUBLIC

LONG = 6 * GRACE


def completed(e: ExecutionKey, task_state: str | None = None) -> TaskCompleted:
    return TaskCompleted(task_id=e.task_id, message="Task was cancelled", task_state=task_state)


def asked_to_stop(e: ExecutionKey) -> TaskCancellation:
    return TaskCancellation(task_id=e.task_id)


async def cancel(plane: Plane, e: ExecutionKey) -> None:
    """What the API does."""
    run = await plane.cancel(e.task_id, "alice")
    assert run is not None
    plane.connections.cancel(run.ref, run.worker_id)
    plane.services.wake()


# ---------------------------------------------------------------- P16: the connection breaks


@pytest.mark.parametrize("before", [False, True])
async def test_a_connection_opened_later_is_no_sign_of_life(plane: Plane, before: bool) -> None:
    """P16: the lease ends. ``before``: it was opened before the dead one was noticed."""
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.step(1000)
    back = plane.worker() if before else None
    await plane.leave(first)
    await plane.step(30)
    back = back or plane.worker()
    await plane.step()
    assert plane.connections.holder(execution.task_id) is None
    await plane.step(LONG - 31)
    assert await state(plane, execution) is RunState.CLAIMED
    await plane.step(1)
    run = await plane.run(execution.task_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert "Worker w sent nothing about the run for 1 h after its connection closed. " in (run.message or "")
    assert heard(back) == [asked_to_stop(execution)]  # it may be the process that has it


async def test_a_process_that_said_goodbye_does_not_come_back(plane: Plane) -> None:
    """P16: it was restarted in good order, and what connects is another process."""
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.leave(first, departed=True)
    plane.worker()
    await plane.step(GRACE - 1)
    assert await state(plane, execution) is RunState.CLAIMED
    await plane.step(1)
    assert await state(plane, execution) is RunState.ERROR


async def test_another_process_of_the_id_is_no_sign_of_life_at_all(plane: Plane) -> None:
    """P16: several public workers share an ID, and one of them dies."""
    other = plane.worker(limit=1)
    other.capacity = other.capacity.rejected(0, plane.now)
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.step(1000)
    await plane.leave(first)
    await plane.step(GRACE)
    assert await state(plane, execution) is RunState.ERROR
    assert asked_to_stop(execution) in heard(other)


async def test_one_that_breaks_and_connects_for_ever_gains_nothing(plane: Plane) -> None:
    """P16: each connection is younger than the last, and the lease is counted from the first break."""
    connection, execution = await claimed_by(plane, PUBLIC)
    for _ in range(LONG // 60):
        assert await state(plane, execution) is RunState.CLAIMED
        await plane.leave(connection)
        await plane.step(30)
        connection = plane.worker()
        await plane.step(30)
    assert await state(plane, execution) is RunState.ERROR


async def test_after_a_restart_of_the_control_plane_it_has_as_long(plane: Plane) -> None:
    """P16: here all workers connect again, and their tasks go on."""
    _, execution = await claimed_by(plane, PUBLIC)
    again = await plane.restarted(after=5)
    await again.step(20)
    back = again.worker()
    await again.step(LONG - 21)
    assert await state(again, execution) is RunState.CLAIMED
    await again.say(back, completed(execution))
    assert await state(again, execution) is RunState.SUCCEEDED


async def test_a_stall_of_the_control_plane_takes_nothing_from_it(plane: Plane) -> None:
    """P16: its connection was opened after the break, and still is when the break has moved on."""
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.leave(first)
    plane.worker()
    await plane.step(60)
    plane.pass_time(3600)
    await plane.step()
    for _ in range((LONG - 60 - GRACE // 4) // 60):
        await plane.step(60)
    assert await state(plane, execution) is RunState.CLAIMED
    for _ in range(GRACE // 60):
        await plane.step(60)
    assert await state(plane, execution) is RunState.ERROR


async def test_a_stall_makes_no_other_process_of_the_id_a_sign_of_life(plane: Plane) -> None:
    """P16: it was there long before the break."""
    other = plane.worker(limit=1)
    other.capacity = other.capacity.rejected(0, plane.now)
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.step(1000)
    await plane.leave(first)
    await plane.step(60)
    plane.pass_time(3600)
    await plane.step()
    for _ in range(GRACE // 60):
        await plane.step(60)
    assert await state(plane, execution) is RunState.ERROR


@pytest.mark.parametrize("away", [1, GRACE - 1])
async def test_the_end_counts_whatever_connection_it_comes_on(plane: Plane, away: int) -> None:
    """P16: a blip; the process still runs its task and reports when it ends."""
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.leave(first)
    await plane.step(away)
    back = plane.worker()
    await plane.step(LONG - away - 1)
    await plane.say(back, TaskFailed(task_id=execution.task_id, message="", failure_reason="container_oom"))
    assert await state(plane, execution) is RunState.FAILED
    assert await plane.step(LONG) is None


async def test_an_end_after_the_lease_changes_nothing(plane: Plane) -> None:
    """P16: the run has ended, and an ended run never moves."""
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.leave(first)
    back = plane.worker()
    await plane.step(LONG)
    before = await plane.run(execution.task_id)
    await plane.say(back, completed(execution))
    assert await plane.run(execution.task_id) == before
    assert before.state is RunState.ERROR


async def retried(plane: Plane) -> tuple[WorkerConnection, ExecutionKey]:
    """A run that is safe to retry, whose lease ended, and which its worker ID was sent again."""
    first, execution = await claimed_by(plane, PUBLIC, safe_to_retry=True)
    await plane.leave(first)
    back = plane.worker()
    await plane.step(LONG)
    await plane.step(1)
    stop, again = heard(back)
    assert stop == asked_to_stop(execution)
    assert isinstance(again, TaskAssignment)
    assert again.execution_id != execution.execution_id
    return back, execution


async def test_the_answer_to_the_first_execution_does_not_cancel_the_second(plane: Plane) -> None:
    """P16: one process has both, and its frames name the run alone."""
    back, execution = await retried(plane)
    await plane.say(back, completed(execution, "CANCELLED"))
    assert await state(plane, execution) is RunState.PENDING
    await plane.say(back, TaskClaimed(task_id=execution.task_id, worker_id="w"))
    await plane.say(back, completed(execution, "CANCELLED"))
    assert await state(plane, execution) is RunState.CLAIMED
    await plane.say(back, completed(execution))
    assert await state(plane, execution) is RunState.SUCCEEDED


async def test_a_late_end_of_the_first_execution_does_not_end_the_second(plane: Plane) -> None:
    """P16: the first process was away all the time, and another of its ID has the run."""
    holder, execution = await retried(plane)
    await plane.say(holder, TaskClaimed(task_id=execution.task_id, worker_id="w"))
    late = plane.worker()
    failed = TaskFailed(task_id=execution.task_id, message="", failure_reason="container_exit", exit_code=1)
    await plane.say(late, failed)
    assert await state(plane, execution) is RunState.CLAIMED
    await plane.say(holder, completed(execution))
    assert await state(plane, execution) is RunState.SUCCEEDED


async def test_a_second_copy_is_stopped_when_the_first_reports_the_end(plane: Plane) -> None:
    """Two processes of one ID have the run: the first was taken for lost, and was not."""
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.leave(first)
    second, first = plane.worker(), plane.worker()
    await plane.say(second, TaskClaimed(task_id=execution.task_id, worker_id="w"))
    assert plane.connections.holder(execution.task_id) is second
    await plane.say(first, completed(execution))
    assert await state(plane, execution) is RunState.SUCCEEDED
    assert heard(second) == [asked_to_stop(execution)]
    assert heard(first) == []


# --------------------------------------------------------------------------- cancellations


async def test_a_public_worker_that_answers_at_once_shows_nothing_by_it(plane: Plane) -> None:
    """On Kubernetes its Job goes on, on Docker with no-cleanup its container."""
    connection, execution = await claimed_by(plane, PUBLIC)
    await cancel(plane, execution)
    assert heard(connection) == [asked_to_stop(execution)]
    await plane.say(connection, completed(execution, "CANCELLED"))
    run = await plane.run(execution.task_id)
    assert (run.state, run.message) == (
        RunState.CANCELLED,
        'Cancelled with the API key "alice"; '
        "worker w reported it as cancelled, which does not show that the task stopped.",
    )


async def test_a_public_worker_that_answers_nothing_ends_with_the_lease(plane: Plane) -> None:
    """The command backend sends no frame for a task that is dispatched, cancelled or not."""
    connection, execution = await claimed_by(plane, PUBLIC)
    await plane.step(10 * GRACE)
    await cancel(plane, execution)
    await plane.step(GRACE - 1)
    assert await state(plane, execution) is RunState.CLAIMED
    await plane.step(1)
    run = await plane.run(execution.task_id)
    assert (run.state, run.message) == (
        RunState.CANCELLED,
        'Cancelled with the API key "alice"; worker w did not confirm within 10 min that the task stopped.',
    )
    assert heard(connection) == [asked_to_stop(execution)]
    assert plane.connections.holder(execution.task_id) is None
    await plane.say(connection, completed(execution))
    assert await plane.run(execution.task_id) == run


async def test_a_cancellation_shortens_the_wait_for_one_that_connected_again(plane: Plane) -> None:
    first, execution = await claimed_by(plane, PUBLIC)
    await plane.leave(first)
    back = plane.worker()
    await plane.step(GRACE + 1)
    await cancel(plane, execution)
    assert heard(back) == [asked_to_stop(execution)]
    await plane.step(GRACE)
    assert await state(plane, execution) is RunState.CANCELLED


@pytest.mark.parametrize("does", ["claims again", "connects again", "is asked again"])
async def test_nothing_but_its_end_makes_a_cancelled_run_last(plane: Plane, does: str) -> None:
    connection, execution = await claimed_by(plane, PUBLIC)
    await cancel(plane, execution)
    await plane.step(GRACE - 10)
    if does == "claims again":
        await plane.say(connection, TaskClaimed(task_id=execution.task_id, worker_id="w"))
        assert heard(connection) == 2 * [asked_to_stop(execution)]
    elif does == "is asked again":
        await cancel(plane, execution)
    else:
        await plane.leave(connection)
        await plane.step(10)
        plane.worker()
    await plane.step(GRACE if does == "connects again" else 10)
    assert await state(plane, execution) is RunState.CANCELLED


async def test_its_runs_have_no_lease_while_it_is_connected_and_nobody_cancels(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, PUBLIC)
    assert await plane.step(100 * GRACE) is None
    assert await state(plane, execution) is RunState.CLAIMED
    assert assigned(connection) == []
