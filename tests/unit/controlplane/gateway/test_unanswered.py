"""Runs that were sent and not answered, through the whole gateway and the store."""

import pytest

from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, RunState
from oz_agent_worker.protocol.frames import TaskAssignment, TaskRejected
from tests.unit.controlplane.dialogue import GRACE, claim, done, sent, state, stop
from tests.unit.controlplane.plane import Plane, assigned, heard
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD

#: Seconds in which a worker connects again.
TO_RECONNECT = 75


@pytest.mark.parametrize(("before", "after"), [(HOST, HOST), (POD, POD)])
async def test_what_was_not_answered_is_sent_again_at_the_hello(
    plane: Plane, before: Peer, after: Peer
) -> None:
    connection = await plane.connect(before)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    await plane.connect(OTHER_HOST)
    stranger = await plane.connect(Peer("x", "kubernetes", "pod/n/x/9"))
    back = await plane.connect(after)
    plane.woken.clear()
    await plane.step()
    (frame,) = heard(back)
    assert isinstance(frame, TaskAssignment)
    assert (frame.task_id, frame.execution_id) == (execution.task_id, execution.execution_id)
    assert assigned(stranger) == []
    await plane.step(GRACE - 1)  # its worker is there, and may be creating it
    assert await state(plane, execution) is RunState.PENDING
    await plane.say(back, claim(execution), done(execution))
    assert await state(plane, execution) is RunState.SUCCEEDED


@pytest.mark.parametrize("safe", [False, True])
async def test_a_worker_that_is_there_and_never_answers_loses_the_run(plane: Plane, safe: bool) -> None:
    silent = await plane.connect(HOST)
    execution = await sent(plane, silent, safe_to_retry=safe)
    await plane.step(30)  # the time to claim it is over: the lease begins
    for _ in range(GRACE // 10 - 1):
        await plane.step(10)
        assert await state(plane, execution) is RunState.PENDING
    other = await plane.connect(Peer("x", "direct", "host/x"))
    await plane.step(10)
    # It may be starting it at this moment: it is asked to stop, and its late claim is refused.
    assert heard(silent) == [stop(execution)]
    assert plane.connections.holder(execution.task_id) is None
    await plane.say(silent, claim(execution))
    assert heard(silent) == [stop(execution)]
    run = await plane.run(execution.task_id)
    if safe:
        assert run.state is RunState.QUEUED
        await plane.step(1)
        (frame,) = heard(other)
        assert isinstance(frame, TaskAssignment)
        assert frame.execution_id != execution.execution_id
    else:
        assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
        assert "Worker w was sent the run and did not answer for 10 min" in (run.message or "")


async def test_a_worker_that_answers_late_keeps_the_run(plane: Plane) -> None:
    slow = await plane.connect(HOST)
    execution = await sent(plane, slow)
    await plane.step(30)
    await plane.step(GRACE - 1)
    await plane.say(slow, claim(execution))
    assert await plane.step(10 * GRACE) is None
    assert await state(plane, execution) is RunState.CLAIMED
    assert heard(slow) == []


async def test_a_worker_that_dies_of_a_run_each_time_is_not_waited_for_for_ever(plane: Plane) -> None:
    run_id, starts = await plane.queue(), 0
    while (await plane.run(run_id)).state in IN_FLIGHT | {RunState.QUEUED}:
        connection = await plane.connect(HOST)
        await plane.step(20)
        starts += assigned(connection) == [run_id]
        await plane.leave(connection)
        await plane.step(20)
        assert starts < 100
    assert (await plane.run(run_id)).error_code == "worker_lost"
    assert starts == 1 + 2 * GRACE // 40


async def test_what_the_hello_names_is_not_sent_again(plane: Plane) -> None:
    connection = await plane.connect(HOST)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    back = await plane.connect(HOST, execution)
    await plane.step()
    assert heard(back) == []
    assert await state(plane, execution) is RunState.CLAIMED


async def test_another_host_is_not_sent_what_the_first_may_have_started(plane: Plane) -> None:
    connection = await plane.connect(HOST)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    other = await plane.connect(OTHER_HOST)
    public = plane.worker()
    for _ in range(25):
        await plane.step(GRACE / 20)
    assert assigned(other) == assigned(public) == []
    run = await plane.run(execution.task_id)
    assert (run.state, run.error_code) == (RunState.ERROR, "worker_lost")


async def test_what_was_never_written_goes_to_anybody_at_once(plane: Plane) -> None:
    connection = await plane.connect(HOST)
    run_id = await plane.queue()
    await plane.step()
    await plane.leave(connection)  # with the assignment in the line of frames
    other = await plane.connect(OTHER_HOST)
    await plane.step()
    assert assigned(other) == [run_id]


async def test_a_public_worker_is_sent_it_again_when_it_would_have_claimed_it(plane: Plane) -> None:
    connection = plane.worker()
    execution = await sent(plane, connection)
    await plane.leave(connection)
    back, other = plane.worker(), plane.worker("x")
    await plane.step(29)
    assert assigned(back) == []
    await plane.step(1)
    assert assigned(back) == [execution.task_id]
    assert assigned(other) == []
    # It does not answer, and the first one might have it: it is not reassigned.
    for _ in range(25):
        await plane.step(GRACE / 20)
    assert assigned(back) == assigned(other) == []
    assert (await plane.run(execution.task_id)).error_code == "worker_lost"


async def test_a_rejection_is_definite(plane: Plane) -> None:
    connection, other = await plane.connect(HOST, limit=1), await plane.connect(Peer("x", "direct", "host/x"))
    execution = await sent(plane, connection)
    await plane.say(connection, TaskRejected(task_id=execution.task_id, reason="full"))
    await plane.step(1)
    assert assigned(other) == [execution.task_id]


async def test_another_pod_is_sent_it_once_the_first_had_its_time_to_connect_again(plane: Plane) -> None:
    """The first may have run the task, and deletes its Job when it has reported it."""
    connection = await plane.connect(POD)
    execution = await sent(plane, connection)
    await plane.step(20)
    await plane.leave(connection)
    other = await plane.connect(OTHER_POD)
    await plane.step(TO_RECONNECT - 1)
    assert assigned(other) == []
    await plane.step(1)
    assert assigned(other) == [execution.task_id]


async def test_another_pod_is_sent_it_at_once_when_the_first_has_said_goodbye(plane: Plane) -> None:
    connection = await plane.connect(POD)
    execution = await sent(plane, connection)
    await plane.leave(connection, departed=True)
    other = await plane.connect(OTHER_POD)
    await plane.step()
    assert assigned(other) == [execution.task_id]


async def test_a_control_plane_that_starts_gives_the_first_pod_its_time_to_connect_again(
    plane: Plane,
) -> None:
    connection = await plane.connect(POD)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    again = await plane.restarted(after=2 * TO_RECONNECT)
    other = await again.connect(OTHER_POD)
    await again.step(TO_RECONNECT - 1)
    assert assigned(other) == []
    # It was there in the meantime, and has deleted the Job.
    first = await again.connect(POD, execution)
    await again.say(first, done(execution))
    await again.step(10)
    assert assigned(other) == assigned(first) == []
    assert await state(again, execution) is RunState.SUCCEEDED


async def test_a_pod_that_is_full_is_asked_again_when_it_has_room(plane: Plane) -> None:
    connection = await plane.connect(POD)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    full = await plane.connect(OTHER_POD)
    await plane.step(TO_RECONNECT)
    assert assigned(full) == [execution.task_id]
    await plane.say(full, TaskRejected(task_id=execution.task_id, reason="at_capacity"))
    other = await plane.connect(Peer("x", "direct", "host/x"))
    await plane.step()
    assert assigned(full) == assigned(other) == []
    await plane.step(1)
    assert assigned(full) == [execution.task_id]
    assert await state(plane, execution) is RunState.PENDING


async def test_a_dead_connection_of_the_same_instance_is_let_go_of(plane: Plane) -> None:
    """A machine that lost its power says no goodbye: its restarted worker is there first."""
    dead = await plane.connect(HOST)
    execution = await sent(plane, dead)
    back = await plane.connect(HOST)
    assert dead.closing.is_set()
    await plane.step()
    assert assigned(back) == [execution.task_id]
    await plane.leave(dead)  # once more, when the socket is found dead
    assert plane.connections.holder(execution.task_id) is back
    # What the dead connection had sent before is still its worker's word.
    await plane.say(dead, claim(execution))
    assert await state(plane, execution) is RunState.CLAIMED
    assert plane.connections.holder(execution.task_id) is back


async def test_what_is_sent_again_and_claimed_before_it_is_written_is_waited_for(plane: Plane) -> None:
    """The worker had it from the first assignment, and the second is still in the line of frames."""
    connection = await plane.connect(POD)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    back = await plane.connect(OTHER_POD)
    await plane.step(TO_RECONNECT)
    await plane.say(back, claim(execution))
    await plane.leave(back)
    assert (await plane.run(execution.task_id)).lease_until is not None
    await plane.step(GRACE)
    assert (await plane.run(execution.task_id)).error_code == "worker_lost"


async def test_an_old_assignment_in_the_line_of_frames_takes_nothing_from_the_next_worker(
    plane: Plane,
) -> None:
    stuck, other = plane.worker(), plane.worker("x", limit=1)
    other.capacity = other.capacity.rejected(0, plane.now)  # not at first
    run_id = await plane.queue()
    await plane.step()
    await plane.step(30)  # public, and silent: queued again
    stuck.closing.set()
    await plane.step(2)
    assert assigned(other) == [run_id]
    await plane.leave(stuck)  # with the assignment in the line of frames
    assert (await plane.run(run_id)).state is RunState.PENDING
    assert plane.connections.holder(run_id) is other
