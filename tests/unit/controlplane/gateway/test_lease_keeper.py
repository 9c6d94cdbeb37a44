"""Leases in step with connections, through the whole gateway and the store."""

import logging
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import lease_queries, queue
from oz_agent_worker.protocol.frames import Ack, TaskAssignment, TaskCompleted
from tests.unit.controlplane.dialogue import GRACE, claimed_by, done, state, stop
from tests.unit.controlplane.plane import Plane, assigned, heard
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, POD, PUBLIC


@pytest.mark.parametrize(
    ("peer", "how"),
    [
        (HOST, "was away, or without the run, for 10 min"),
        (POD, "was away, or without the run, for 10 min"),
        (PUBLIC, "sent nothing about the run for 10 min after its connection closed"),
    ],
)
async def test_a_worker_that_stays_away_loses_its_run(plane: Plane, peer: Peer, how: str) -> None:
    connection, execution = await claimed_by(plane, peer)
    assert await plane.step(10 * GRACE) is None  # while it is there, nothing runs
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    assert await state(plane, execution) is RunState.CLAIMED
    assert await plane.step() == pytest.approx(1, abs=0.01)
    with plane.subscribers.subscribe(execution.task_id) as changed:
        await plane.step(1)
        assert changed.is_set()
    run = await plane.run(execution.task_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert f"Worker w {how}. " in (run.message or "")


async def test_a_worker_that_comes_back_in_time_goes_on(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    back = await plane.connect(HOST, execution)
    assert await plane.step(10 * GRACE) is None
    assert heard(back) == []
    await plane.say(back, done(execution))
    assert await state(plane, execution) is RunState.SUCCEEDED


async def test_a_hello_without_the_run_does_not_stop_its_lease(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.connect(HOST)
    await plane.step(GRACE)
    assert await state(plane, execution) is RunState.ERROR


async def test_a_run_that_is_safe_to_retry_goes_to_the_next_worker(plane: Plane) -> None:
    connection, first = await claimed_by(plane, HOST, safe_to_retry=True)
    await plane.leave(connection)
    await plane.step()
    await plane.step(GRACE)
    other = await plane.connect(OTHER_HOST)
    await plane.step(1)
    (frame,) = heard(other)
    assert isinstance(frame, TaskAssignment)
    assert frame.task_id == first.task_id
    assert frame.execution_id != first.execution_id
    # The first worker comes back with what it ran, and is asked to stop that alone.
    back = await plane.connect(HOST, first)
    assert heard(back) == [stop(first)]
    await plane.say(back, done(first))
    assert heard(back) == [Ack(ack_id="a")]
    assert await state(plane, first) is RunState.PENDING


async def test_the_end_of_an_earlier_execution_leaves_the_present_one_alone(plane: Plane) -> None:
    connection, first = await claimed_by(plane, HOST, safe_to_retry=True)
    await plane.leave(connection)
    await plane.step()
    await plane.step(GRACE)
    back = await plane.connect(HOST, first)
    await plane.step(1)
    stopped, sent_again = heard(back)
    assert stopped == stop(first)
    assert isinstance(sent_again, TaskAssignment)
    await plane.say(back, done(first))
    assert plane.connections.holder(first.task_id) is back
    await plane.leave(back)
    assert (await plane.run(first.task_id)).lease_until is not None


async def test_a_cancellation_is_sent_at_the_reconnect_or_done_by_the_lease(plane: Plane) -> None:
    for returns in (True, False):
        connection, execution = await claimed_by(plane, HOST)
        await plane.leave(connection)
        await plane.cancel(execution.task_id)
        if returns:
            back = await plane.connect(HOST, execution)
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
    with monkeypatch.context() as broken, caplog.at_level(logging.INFO):
        broken.setattr(lease_queries, "begin", fail)
        await plane.leave(connection)
        for _ in range(3):
            connection = await plane.connect(HOST, execution)
            await plane.leave(connection)
        with pytest.raises(OperationalError):
            await plane.step()
    with caplog.at_level(logging.INFO):
        await plane.step()
    said = [m.partition(":")[0] for m in caplog.messages if m.startswith("storing leases")]
    assert said == ["storing leases failed and will be retried", "storing leases works again, after 0s"]
    await plane.step(GRACE)
    assert await state(plane, execution) is RunState.ERROR


async def test_a_lease_of_a_run_that_somebody_has_is_cleared_in_place_of_ending(plane: Plane) -> None:
    _, execution = await claimed_by(plane, HOST)
    await plane.database.write(lease_queries.begin, [execution.task_id], plane.now, plane.now + 1)
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
    await plane.lease_keeper.stop()
    again = await plane.restarted(after=100 * GRACE)
    await again.step(99)
    assert await state(again, execution) is RunState.CLAIMED
    await again.step(1)
    assert await state(again, execution) is RunState.ERROR


async def test_the_time_in_which_a_control_plane_stalls_does_not_count(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process was stopped, or its machine suspended: whoever came meanwhile is heard only afterwards."""
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    assert caplog.messages == []
    plane.pass_time(3600)
    await plane.step()
    assert "dispatcher was stalled for 5" in caplog.text  # 59 min, counted from its next deadline
    await plane.step(74)
    assert await state(plane, execution) is RunState.CLAIMED
    for _ in range(GRACE // 75):
        await plane.step(75)
    assert await state(plane, execution) is RunState.ERROR


async def test_a_slow_control_plane_is_not_a_stalled_one(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step()
    for _ in range(GRACE // 10):
        plane.pass_time(10)
        await plane.dispatcher.step()
    assert await state(plane, execution) is RunState.ERROR
    assert "stalled" not in caplog.text


async def test_a_control_plane_whose_database_was_away_did_not_listen(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("", None, Exception("server closed the connection"))

    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step()
    with monkeypatch.context() as broken:
        broken.setattr(queue, "next_deadlines", fail)
        for _ in range(GRACE):
            plane.pass_time(1)
            with pytest.raises(OperationalError):
                await plane.dispatcher.step()
    await plane.step()
    assert await state(plane, execution) is RunState.CLAIMED


async def test_a_worker_that_could_not_connect_earlier_has_the_time_to(plane: Plane) -> None:
    connection, execution = await claimed_by(plane, HOST)
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    await plane.lease_keeper.stop()
    again = await plane.restarted(after=3600)
    await again.step(74)
    back = await again.connect(HOST, execution)
    assert await again.step(GRACE) is None
    await again.say(back, done(execution))
    assert await state(again, execution) is RunState.SUCCEEDED


async def test_checkpoints_are_taken_while_leases_run_alone_and_seldom(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    store = lease_queries.checkpoint

    def note(connection: Connection, now: int) -> None:
        taken.append(now)
        store(connection, now)

    monkeypatch.setattr(lease_queries, "checkpoint", note)
    connection, execution = await claimed_by(plane, HOST)
    for _ in range(100):
        await plane.step(60)
    assert taken == []
    await plane.leave(connection)
    for _ in range(GRACE - 1):
        await plane.step(1)
    assert await state(plane, execution) is RunState.CLAIMED
    assert len(taken) == 4


async def test_a_checkpoint_that_cannot_be_stored_at_the_end_is_logged(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("", None, Exception("disk full"))

    monkeypatch.setattr(lease_queries, "checkpoint", fail)
    await plane.lease_keeper.stop()
    assert "the time until which leases ran cannot be stored" in caplog.text


async def test_a_run_that_is_safe_to_retry_is_not_started_for_ever(tmp_path: Path) -> None:
    plane = await Plane.open(tmp_path / "db", max_starts=3)
    run_id = await plane.queue(safe_to_retry=True)
    for _ in range(3):
        connection = await plane.connect(HOST)
        await plane.step(60)  # the delay is over
        assert assigned(connection) == [run_id]
        await plane.leave(connection)
        await plane.step(GRACE)
    run = await plane.run(run_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert "started 3 times, the most that is allowed" in (run.message or "")
    await plane.close()
