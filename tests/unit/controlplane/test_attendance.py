"""Leases in step with connections, through hub, intake, dispatcher and store."""

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.exc import OperationalError

from oz_agent_worker.controlplane.hub import Connection
from oz_agent_worker.controlplane.peer import Peer
from oz_agent_worker.controlplane.states import IN_FLIGHT, RunState
from oz_agent_worker.controlplane.store import leases, reports
from oz_agent_worker.core.wire import (
    Ack,
    RunningExecution,
    TaskAssignment,
    TaskCancellation,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskLog,
    TaskRejected,
)
from tests.unit.controlplane.plane import Plane, assigned, heard
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

GRACE = 600


async def sent(plane: Plane, connection: Connection, **more: object) -> RunningExecution:
    """Queue a run, and let a connection be sent it."""
    run_id = await plane.queue(**more)  # type: ignore[arg-type]
    await plane.step()
    assert assigned(connection) == [run_id]
    return RunningExecution(task_id=run_id, execution_id=(await plane.run(run_id)).execution_id)


def claim(e: RunningExecution) -> TaskClaimed:
    return TaskClaimed(task_id=e.task_id, worker_id="w", execution_id=e.execution_id)


def done(e: RunningExecution, ack_id: str = "a") -> TaskCompleted:
    return TaskCompleted(task_id=e.task_id, message="", execution_id=e.execution_id, ack_id=ack_id)


def cancelled(e: RunningExecution) -> TaskCompleted:
    return TaskCompleted(task_id=e.task_id, message="", task_state="CANCELLED")


def stop(e: RunningExecution) -> TaskCancellation:
    return TaskCancellation(task_id=e.task_id, execution_id=e.execution_id)


async def state(plane: Plane, e: RunningExecution) -> RunState:
    return (await plane.run(e.task_id)).state


async def claimed_by(plane: Plane, peer: Peer, **more: object) -> tuple[Connection, RunningExecution]:
    connection = await plane.greet(peer) if peer.greeted else plane.worker(peer.worker_id)
    execution = await sent(plane, connection, **more)
    await plane.say(connection, claim(execution))
    return connection, execution


# ---------------------------------------------------------------------------------- leases


@pytest.mark.parametrize("peer", [HOST, POD, PUBLIC])
async def test_a_worker_that_stays_away_loses_its_run(plane: Plane, peer: Peer) -> None:
    connection, execution = await claimed_by(plane, peer)
    assert await plane.step(10 * GRACE) is None  # while it is there, nothing runs
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    assert await state(plane, execution) is RunState.CLAIMED
    assert await plane.step() == pytest.approx(1, abs=0.01)
    with plane.followers.follow(execution.task_id) as follower:
        await plane.step(1)
        assert await follower.changed(0)
    run = await plane.run(execution.task_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert "Worker w was away, or without the run, for 10 min" in (run.message or "")


async def test_a_worker_that_comes_back_in_time_goes_on(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    back = await plane.greet(HOST, execution)
    assert await plane.step(10 * GRACE) is None
    assert heard(back) == []
    await plane.say(back, done(execution))
    assert await state(plane, execution) is RunState.SUCCEEDED


async def test_a_hello_without_the_run_does_not_stop_its_lease(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.greet(HOST)
    await plane.step(GRACE)
    assert await state(plane, execution) is RunState.ERROR


async def test_while_any_public_worker_of_its_id_is_there_a_run_lives(plane: Plane) -> None:
    first, execution = await claimed_by(plane, PUBLIC)
    second = plane.worker()
    await plane.leave(first)
    await plane.step()
    assert plane.hub.holder(execution.task_id) is second
    assert await plane.step(10 * GRACE) is None
    await plane.leave(second)
    await plane.step()
    await plane.step(GRACE - 1)
    plane.worker("x")
    third = plane.worker()
    await plane.step()
    assert plane.hub.holder(execution.task_id) is third
    await plane.say(third, TaskCompleted(task_id=execution.task_id, message=""))
    assert await state(plane, execution) is RunState.SUCCEEDED


async def test_a_run_that_is_safe_to_retry_goes_to_the_next_worker(plane: Plane) -> None:
    connection, first = await claimed_by(plane, HOST, safe_to_retry=True)
    await plane.leave(connection)
    await plane.step()
    await plane.step(GRACE)
    other = await plane.greet(OTHER_HOST)
    await plane.step(1)
    (frame,) = heard(other)
    assert isinstance(frame, TaskAssignment)
    assert frame.task_id == first.task_id
    assert frame.execution_id != first.execution_id
    # The first worker comes back with what it ran, and is told to stop that alone.
    back = await plane.greet(HOST, first)
    assert heard(back) == [stop(first)]
    await plane.say(back, done(first))
    assert heard(back) == [Ack(ack_id="a")]
    assert await state(plane, first) is RunState.PENDING


async def test_the_end_of_an_earlier_execution_takes_nobody_the_present_one(plane: Plane) -> None:
    connection, first = await claimed_by(plane, HOST, safe_to_retry=True)
    await plane.leave(connection)
    await plane.step()
    await plane.step(GRACE)
    back = await plane.greet(HOST, first)
    await plane.step(1)
    stopped, sent_again = heard(back)
    assert stopped == stop(first)
    assert isinstance(sent_again, TaskAssignment)
    await plane.say(back, done(first))
    assert plane.hub.holder(first.task_id) is back
    await plane.leave(back)
    assert (await plane.run(first.task_id)).lease_until is not None


async def test_a_wish_to_cancel_is_told_at_the_return_or_fulfilled_by_the_lease(plane: Plane) -> None:
    for returns in (True, False):
        connection, execution = await claimed_by(plane, HOST)
        await plane.leave(connection)
        await plane.database.write(reports.cancel, execution.task_id, plane.now)
        if returns:
            back = await plane.greet(HOST, execution)
            assert heard(back) == [stop(execution)]
            await plane.say(
                back, TaskCompleted(task_id=execution.task_id, message="", task_state="CANCELLED")
            )
            await plane.leave(back)
        else:
            await plane.step()
            await plane.step(GRACE)
        assert await state(plane, execution) is RunState.CANCELLED


async def test_a_lease_that_cannot_be_stored_is_stored_later(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("", None, Exception("disk full"))

    connection, execution = await claimed_by(plane, HOST)
    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr(leases, "begin", fail)
        await plane.leave(connection)
        with pytest.raises(OperationalError):
            await plane.step()
    assert "to be tried again" in caplog.text
    await plane.step()
    await plane.step(GRACE)
    assert await state(plane, execution) is RunState.ERROR


async def test_a_lease_of_a_run_that_somebody_has_is_cleared_in_place_of_ending(plane: Plane) -> None:
    _, execution = await claimed_by(plane, HOST)
    await plane.database.write(leases.begin, [execution.task_id], plane.now, plane.now + 1)
    await plane.step(1)
    assert await state(plane, execution) is RunState.CLAIMED
    assert (await plane.run(execution.task_id)).lease_until is None


async def test_after_a_restart_of_the_control_plane_workers_have_the_grace_to_come_back(plane: Plane) -> None:
    _, execution = await claimed_by(plane, HOST)
    again = await plane.restarted(after=9000)
    await again.step(GRACE - 1)
    assert await state(again, execution) is RunState.CLAIMED
    await again.step(1)
    assert await state(again, execution) is RunState.ERROR


async def test_a_control_plane_that_restarts_more_often_than_the_grace_ends_leases_too(plane: Plane) -> None:
    _, execution = await claimed_by(plane, HOST)
    lives = 0
    while await state(plane, execution) is RunState.CLAIMED:
        plane, lives = await plane.restarted(after=5), lives + 1
        assert lives < 30, "it would wait for ever"
        for _ in range(100):
            await plane.step(1)
    # Each counts for 64 s at least, which is where its last checkpoint was.
    assert 6 < lives < 12


async def test_the_time_in_which_no_control_plane_listens_does_not_count(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step(GRACE - 100)
    await plane.attendance.stop()
    again = await plane.restarted(after=100 * GRACE)
    await again.step(99)
    assert await state(again, execution) is RunState.CLAIMED
    await again.step(1)
    assert await state(again, execution) is RunState.ERROR


async def test_a_worker_that_could_not_connect_earlier_has_the_time_to(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    await plane.attendance.stop()
    again = await plane.restarted(after=3600)
    await again.step(74)
    back = await again.greet(HOST, execution)
    assert await again.step(GRACE) is None
    await again.say(back, done(execution))
    assert await state(again, execution) is RunState.SUCCEEDED


async def test_checkpoints_are_taken_while_leases_run_alone_and_seldom(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    store = leases.checkpoint

    def note(connection: SqlConnection, now: int) -> None:
        taken.append(now)
        store(connection, now)

    monkeypatch.setattr(leases, "checkpoint", note)
    connection, execution = await claimed_by(plane, HOST)
    for _ in range(100):
        await plane.step(60)
    assert taken == []
    await plane.leave(connection)
    for _ in range(GRACE - 1):
        await plane.step(1)
    assert await state(plane, execution) is RunState.CLAIMED
    assert len(taken) == 4


async def test_a_checkpoint_that_cannot_be_stored_at_the_end_is_said(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("", None, Exception("disk full"))

    monkeypatch.setattr(leases, "checkpoint", fail)
    await plane.attendance.stop()
    assert "leases ran until now, which cannot be stored" in caplog.text


async def test_a_run_that_is_safe_to_retry_is_not_started_for_ever(tmp_path: Path) -> None:
    plane = await Plane.open(tmp_path / "db", max_starts=3)
    run_id = await plane.queue(safe_to_retry=True)
    for _ in range(3):
        connection = await plane.greet(HOST)
        await plane.step(60)  # the delay is over
        assert assigned(connection) == [run_id]
        await plane.leave(connection)
        await plane.step(GRACE)
    run = await plane.run(run_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert "started 3 times, the most that is allowed" in (run.message or "")
    await plane.close()


# --------------------------------------------------------------- sent, and not answered


@pytest.mark.parametrize(("before", "after"), [(HOST, HOST), (POD, OTHER_POD), (POD, POD)])
async def test_what_was_not_answered_is_sent_again_at_the_hello(
    plane: Plane, before: Peer, after: Peer
) -> None:
    connection = await plane.greet(before)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    await plane.greet(OTHER_HOST)
    stranger = await plane.greet(Peer("x", "kubernetes", "pod/n/x/9"))
    back = await plane.greet(after)
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
    silent = await plane.greet(HOST)
    execution = await sent(plane, silent, safe_to_retry=safe)
    await plane.step(30)  # the time to claim it is over: the lease begins
    for _ in range(GRACE // 10 - 1):
        await plane.step(10)
        assert await state(plane, execution) is RunState.PENDING
    other = await plane.greet(Peer("x", "direct", "host/x"))
    await plane.step(10)
    # It may be starting it at this moment: it is told to stop, and its late claim is refused.
    assert heard(silent) == [stop(execution)]
    assert plane.hub.holder(execution.task_id) is None
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
    slow = await plane.greet(HOST)
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
        connection = await plane.greet(HOST)
        await plane.step(20)
        starts += assigned(connection) == [run_id]
        await plane.leave(connection)
        await plane.step(20)
        assert starts < 100
    assert (await plane.run(run_id)).error_code == "worker_lost"
    assert starts == 2 * GRACE // 40


async def test_what_the_hello_names_is_not_sent_again(plane: Plane) -> None:
    connection = await plane.greet(HOST)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    back = await plane.greet(HOST, execution)
    await plane.step()
    assert heard(back) == []
    assert await state(plane, execution) is RunState.CLAIMED


async def test_another_host_is_not_sent_what_the_first_may_have_started(plane: Plane) -> None:
    connection = await plane.greet(HOST)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    other = await plane.greet(OTHER_HOST)
    public = plane.worker()
    for _ in range(25):
        await plane.step(GRACE / 20)
    assert assigned(other) == assigned(public) == []
    run = await plane.run(execution.task_id)
    assert (run.state, run.error_code) == (RunState.ERROR, "worker_lost")


async def test_what_was_never_written_goes_to_anybody_at_once(plane: Plane) -> None:
    connection = await plane.greet(HOST)
    run_id = await plane.queue()
    await plane.step()
    await plane.leave(connection)  # with the assignment in the line of frames
    other = await plane.greet(OTHER_HOST)
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
    # It does not answer, and the first one might have it: it is given to nobody else.
    for _ in range(25):
        await plane.step(GRACE / 20)
    assert assigned(back) == assigned(other) == []
    assert (await plane.run(execution.task_id)).error_code == "worker_lost"


async def test_a_rejection_is_definite(plane: Plane) -> None:
    connection, other = await plane.greet(HOST, limit=1), await plane.greet(Peer("x", "direct", "host/x"))
    execution = await sent(plane, connection)
    await plane.say(connection, TaskRejected(task_id=execution.task_id, reason="full"))
    await plane.step(1)
    assert assigned(other) == [execution.task_id]


async def test_a_pod_that_is_full_is_asked_again_when_it_has_room(plane: Plane) -> None:
    connection = await plane.greet(POD)
    execution = await sent(plane, connection)
    await plane.leave(connection)
    full = await plane.greet(OTHER_POD)
    await plane.step()
    assert assigned(full) == [execution.task_id]
    await plane.say(full, TaskRejected(task_id=execution.task_id, reason="at_capacity"))
    other = await plane.greet(Peer("x", "direct", "host/x"))
    await plane.step()
    assert assigned(full) == assigned(other) == []
    await plane.step(1)
    assert assigned(full) == [execution.task_id]
    assert await state(plane, execution) is RunState.PENDING


async def test_a_dead_connection_of_the_same_instance_is_let_go_of(plane: Plane) -> None:
    """A machine that lost its power says no goodbye: its restarted worker is there first."""
    dead = await plane.greet(HOST)
    execution = await sent(plane, dead)
    back = await plane.greet(HOST)
    assert dead.closing.is_set()
    await plane.step()
    assert assigned(back) == [execution.task_id]
    await plane.leave(dead)  # once more, when the socket is found dead
    assert plane.hub.holder(execution.task_id) is back
    # What the dead connection had sent before is still its worker's word.
    await plane.say(dead, claim(execution))
    assert await state(plane, execution) is RunState.CLAIMED
    assert plane.hub.holder(execution.task_id) is back


# -------------------------------------------------------------------------------- fencing


async def test_a_refused_claim_is_answered_with_a_cancellation(plane: Plane) -> None:
    holder, execution = await claimed_by(plane, HOST)
    for peer in (OTHER_HOST, Peer("x", "direct", "host/x")):
        late = await plane.greet(peer)
        await plane.say(late, claim(execution))
        assert heard(late) == [stop(execution)]
        await plane.say(late, cancelled(execution))
        assert await state(plane, execution) is RunState.CLAIMED
    assert plane.hub.holder(execution.task_id) is holder


async def test_a_late_claim_of_a_run_that_another_was_sent_is_refused(plane: Plane) -> None:
    late, second = plane.worker("late"), plane.worker("second", limit=1)
    second.capacity = second.capacity.rejected(0, plane.now)  # not at first
    execution = await sent(plane, late)
    await plane.step(30)  # public, and silent: queued again
    late.closing.set()
    await plane.step(2)
    assert assigned(second) == [execution.task_id]
    await plane.say(late, TaskClaimed(task_id=execution.task_id, worker_id="late"))
    assert heard(late) == [TaskCancellation(task_id=execution.task_id)]
    await plane.say(second, TaskClaimed(task_id=execution.task_id, worker_id="second"))
    await plane.say(late, cancelled(execution))
    assert await state(plane, execution) is RunState.CLAIMED


async def test_a_second_public_process_of_one_id_is_stopped_and_not_believed(plane: Plane) -> None:
    holder, execution = await claimed_by(plane, PUBLIC)
    second = plane.worker()
    late = TaskClaimed(task_id=execution.task_id, worker_id="w")
    await plane.say(second, late)
    assert heard(second) == [TaskCancellation(task_id=execution.task_id)]
    await plane.say(second, cancelled(execution))
    assert await state(plane, execution) is RunState.CLAIMED
    assert plane.hub.holder(execution.task_id) is holder


async def test_a_public_worker_is_not_told_to_stop_the_run_that_it_has(plane: Plane) -> None:
    holder, execution = await claimed_by(plane, PUBLIC)
    await plane.say(holder, TaskClaimed(task_id=execution.task_id, worker_id="w", execution_id="earlier"))
    assert heard(holder) == []


async def test_output_of_who_has_no_right_to_run_is_not_kept(plane: Plane) -> None:
    _, execution = await claimed_by(plane, HOST)
    other = await plane.greet(OTHER_HOST)
    log = TaskLog(task_id=execution.task_id, execution_id=execution.execution_id, offset=0, text="x")
    await plane.say(other, log)
    await plane.say(other, log)
    assert heard(other) == [stop(execution)]  # once
    assert await state(plane, execution) is RunState.CLAIMED


async def test_an_execution_that_ended_here_is_stopped_at_the_hello(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step()
    await plane.step(GRACE)
    before = await plane.run(execution.task_id)
    back = await plane.greet(HOST, execution)
    assert heard(back) == [stop(execution)]
    await plane.say(back, done(execution))
    assert heard(back) == [Ack(ack_id="a")]
    assert await plane.run(execution.task_id) == before


@pytest.mark.parametrize("first", ["report", "cancellation"])
async def test_a_cancellation_that_races_with_the_end_ends_once(plane: Plane, first: str) -> None:
    connection, execution = await claimed_by(plane, HOST)
    report = plane.say(connection, done(execution))
    if first == "report":
        await report
        outcome = await plane.database.write(reports.cancel, execution.task_id, plane.now)
        assert outcome.outcome is reports.Cancel.ENDED
    else:
        await plane.database.write(reports.cancel, execution.task_id, plane.now)
        await report
    assert await state(plane, execution) is RunState.SUCCEEDED
    await plane.say(
        connection, TaskFailed(task_id=execution.task_id, message="", failure_reason="task_cancelled")
    )
    assert await state(plane, execution) is RunState.SUCCEEDED


LATE = st.one_of(
    st.builds(TaskCompleted, task_id=st.just("?"), message=st.text(max_size=5), ack_id=st.just("k")),
    st.builds(
        TaskFailed,
        task_id=st.just("?"),
        message=st.text(max_size=5),
        failure_reason=st.sampled_from([None, "container_exit", "task_cancelled", "worker_lost"]),
        ack_id=st.just("k"),
    ),
)


async def test_any_late_report_is_acknowledged_and_changes_nothing(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.say(connection, done(execution))
    heard(connection)
    before = await plane.run(execution.task_id)
    speakers = [connection, await plane.greet(OTHER_HOST), plane.worker(), plane.worker("x")]
    loop = asyncio.get_running_loop()

    @settings(deadline=None, max_examples=50)
    @given(LATE, st.sampled_from(speakers), st.sampled_from([None, execution.execution_id, "old"]))
    def late(frame: TaskCompleted | TaskFailed, speaker: Connection, execution_id: str | None) -> None:
        told = replace(frame, task_id=execution.task_id, execution_id=execution_id)
        asyncio.run_coroutine_threadsafe(plane.say(speaker, told), loop).result(10)
        assert heard(speaker) == [Ack(ack_id="k")]

    await asyncio.to_thread(late)
    assert await plane.run(execution.task_id) == before
