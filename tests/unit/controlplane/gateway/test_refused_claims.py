"""Refused claims, through the frame handler, the connections and the store."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from oz_agent_worker.controlplane.gateway.connections import WorkerConnection
from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState
from oz_agent_worker.protocol.frames import (
    Ack,
    TaskCancellation,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskLog,
)
from tests.unit.controlplane.dialogue import GRACE, cancelled, claim, claimed_by, done, sent, state, stop
from tests.unit.controlplane.plane import Plane, assigned, heard
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, PUBLIC


async def test_a_refused_claim_is_answered_with_a_cancellation(plane: Plane) -> None:
    holder, execution = await claimed_by(plane, HOST)
    for peer in (OTHER_HOST, Peer("x", "direct", "host/x")):
        late = await plane.connect(peer)
        await plane.say(late, claim(execution))
        assert heard(late) == [stop(execution)]
        await plane.say(late, cancelled(execution))
        assert await state(plane, execution) is RunState.CLAIMED
    assert plane.connections.holder(execution.task_id) is holder


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
    assert plane.connections.holder(execution.task_id) is holder


async def test_a_public_worker_is_not_asked_to_stop_the_run_that_it_has(plane: Plane) -> None:
    holder, execution = await claimed_by(plane, PUBLIC)
    await plane.say(holder, TaskClaimed(task_id=execution.task_id, worker_id="w", execution_id="earlier"))
    assert heard(holder) == []


async def test_output_of_who_has_no_right_to_run_is_not_kept(plane: Plane) -> None:
    _, execution = await claimed_by(plane, HOST)
    other = await plane.connect(OTHER_HOST)
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
    back = await plane.connect(HOST, execution)
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
        run = await plane.cancel(execution.task_id)
        assert run is not None
        assert run.state in TERMINAL
    else:
        await plane.cancel(execution.task_id)
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
    speakers = [connection, await plane.connect(OTHER_HOST), plane.worker(), plane.worker("x")]
    loop = asyncio.get_running_loop()

    @settings(deadline=None, max_examples=50)
    @given(LATE, st.sampled_from(speakers), st.sampled_from([None, execution.execution_id, "old"]))
    def late(frame: TaskCompleted | TaskFailed, speaker: WorkerConnection, execution_id: str | None) -> None:
        reported_as = replace(frame, task_id=execution.task_id, execution_id=execution_id)
        asyncio.run_coroutine_threadsafe(plane.say(speaker, reported_as), loop).result(10)
        assert heard(speaker) == [Ack(ack_id="k")]

    await asyncio.to_thread(late)
    assert await plane.run(execution.task_id) == before
