import asyncio
import logging

import msgspec
import pytest
from sqlalchemy.exc import OperationalError

from oz_agent_worker.controlplane.gateway.connections import WorkerConnection
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import reports
from oz_agent_worker.protocol.frames import (
    Ack,
    ExecutionKey,
    Heartbeat,
    TaskCancellation,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskLog,
    TaskRejected,
    WorkerFrame,
    WorkerHello,
    encode_frame,
)
from tests.unit.controlplane.plane import Plane, assigned, heard


async def assign(plane: Plane, worker: WorkerConnection) -> str:
    run_id = await plane.queue(worker.peer.worker_id)
    await plane.dispatcher.step()
    assert assigned(worker) == [run_id]
    return run_id


def claimed(run_id: str) -> TaskClaimed:
    return TaskClaimed(task_id=run_id, worker_id="w")


def hello(limit: int = 0, *executions: ExecutionKey) -> WorkerHello:
    return WorkerHello(
        worker_id="w", version="1", backend="direct", max_concurrent_tasks=limit, executions=list(executions)
    )


async def test_a_hello_without_a_version_counts(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    worker = plane.worker()
    with caplog.at_level(logging.INFO):
        await plane.say(worker, msgspec.structs.replace(hello(3), version=None))
    assert worker.peer.sent_hello
    assert "said hello: version unknown, backend direct" in caplog.text


async def test_a_life(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    execution_id = (await plane.run(run_id)).execution_id
    await plane.say(worker, claimed(run_id))
    assert (await plane.run(run_id)).state is RunState.CLAIMED
    await plane.say(worker, TaskLog(task_id=run_id, execution_id=execution_id, offset=0, text="hi"))
    assert (await plane.run(run_id)).state is RunState.INPROGRESS
    await plane.say(worker, TaskCompleted(task_id=run_id, message="done", ack_id="7"))
    assert (await plane.run(run_id)).state is RunState.SUCCEEDED
    assert heard(worker) == [Ack(ack_id="7")]
    assert plane.connections.holder(run_id) is None


async def test_frames_of_a_burst_are_applied_in_order(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    await plane.say(
        worker, claimed(run_id), TaskFailed(task_id=run_id, message="x", failure_reason="evicted")
    )
    assert (await plane.run(run_id)).state is RunState.ERROR
    assert plane.connections.holder(run_id) is None
    assert worker.runs == set()


async def test_a_report_repeated_is_acknowledged_and_changes_nothing(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    await plane.say(worker, TaskCompleted(task_id=run_id, message="done", ack_id="1"))
    before = await plane.run(run_id)
    plane.pass_time(5)
    await plane.say(worker, TaskFailed(task_id=run_id, message="no", ack_id="2"))
    assert await plane.run(run_id) == before
    assert heard(worker) == [Ack(ack_id="1"), Ack(ack_id="2")]


async def test_a_report_of_an_unknown_run_is_acknowledged(plane: Plane) -> None:
    worker = plane.worker()
    await plane.say(worker, TaskCompleted(task_id="who?", message="", ack_id="1"))
    assert heard(worker) == [Ack(ack_id="1")]


async def test_without_ack_id_there_is_no_ack(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    await plane.say(worker, TaskCompleted(task_id=run_id, message=""))
    assert heard(worker) == []


async def test_a_rejected_run_comes_back_after_a_second(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    await plane.say(worker, TaskRejected(task_id=run_id, reason="full"))
    assert (await plane.run(run_id)).state is RunState.QUEUED
    await plane.dispatcher.step()
    assert assigned(worker) == []
    plane.pass_time(1)
    await plane.dispatcher.step()
    assert assigned(worker) == [run_id]


async def test_a_public_worker_is_given_what_it_can_take_once_it_has_rejected(plane: Plane) -> None:
    worker = plane.worker()
    for _ in range(10):
        await plane.queue()
    await plane.dispatcher.step()
    given = assigned(worker)
    assert len(given) == 10
    for run_id in given[:4]:
        await plane.say(worker, claimed(run_id))
    for run_id in given[4:]:
        await plane.say(worker, TaskRejected(task_id=run_id, reason="full"))
    plane.pass_time(1)
    await plane.dispatcher.step()
    assert len(assigned(worker)) == 1  # a probe, not six
    await plane.say(worker, TaskCompleted(task_id=given[0], message=""))
    await plane.dispatcher.step()
    assert len(assigned(worker)) == 1


async def test_another_connections_run_cannot_be_rejected(plane: Plane) -> None:
    worker, twin = plane.worker(), plane.worker()
    run_id = await plane.queue()
    await plane.dispatcher.step()
    assert plane.connections.holder(run_id) is worker
    await plane.say(twin, TaskRejected(task_id=run_id, reason="full"))
    assert (await plane.run(run_id)).state is RunState.PENDING


async def test_hello_sets_the_limit_and_wakes_the_dispatcher(plane: Plane) -> None:
    worker = plane.connections.connect("w", "key", plane.now)
    for _ in range(5):
        await plane.queue()
    await plane.dispatcher.step()
    assert assigned(worker) == []
    plane.woken.clear()
    await plane.say(worker, hello(3))
    assert plane.woken.is_set()
    await plane.dispatcher.step()
    assert len(assigned(worker)) == 3


async def test_executions_that_a_worker_lists_are_its_own_again(plane: Plane) -> None:
    first = plane.worker()
    claimed_run, pending_run = await assign(plane, first), await assign(plane, first)
    await plane.say(first, claimed(claimed_run))
    plane.connections.disconnect(first, plane.now)
    second = plane.connections.connect("w", "key", plane.now)
    executions = [
        ExecutionKey(task_id=run_id, execution_id=(await plane.run(run_id)).execution_id)
        for run_id in (claimed_run, pending_run)
    ]
    stranger = ExecutionKey(task_id="who?", execution_id="?")
    await plane.say(second, hello(2, *executions, stranger))
    assert second.runs == {claimed_run, pending_run}
    assert (await plane.run(pending_run)).state is RunState.CLAIMED
    assert heard(second) == []
    await plane.queue()
    await plane.dispatcher.step()
    assert assigned(second) == []  # two of two in hand


async def test_a_cancellation_is_repeated_to_a_worker_that_comes_back(plane: Plane) -> None:
    first = plane.worker()
    run_id = await assign(plane, first)
    await plane.say(first, claimed(run_id))
    plane.connections.disconnect(first, plane.now)
    cancelled = await plane.cancel(run_id)
    assert cancelled is not None
    assert cancelled.state is RunState.CLAIMED

    public = plane.connections.connect("w", "key", plane.now)
    await consume(plane, public, [])
    assert heard(public) == [TaskCancellation(task_id=run_id)]

    ours = plane.connections.connect("w", "key", plane.now)
    execution_id = (await plane.run(run_id)).execution_id
    await plane.say(ours, hello(0, ExecutionKey(task_id=run_id, execution_id=execution_id)))
    assert heard(ours) == [TaskCancellation(task_id=run_id, execution_id=execution_id)]
    await plane.say(ours, TaskCompleted(task_id=run_id, message="", task_state="CANCELLED"))
    assert (await plane.run(run_id)).state is RunState.CANCELLED


async def test_a_worker_that_claims_a_cancelled_run_is_asked_to_stop(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    plane.pass_time(31)
    await plane.dispatcher.step()
    cancelled = await plane.cancel(run_id)
    assert cancelled is not None
    assert cancelled.state is RunState.QUEUED
    await plane.say(worker, claimed(run_id))
    assert heard(worker) == [TaskCancellation(task_id=run_id)]


async def test_a_late_claim_takes_the_run_out_of_the_queue(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    plane.pass_time(30)
    await plane.dispatcher.step()
    await plane.say(worker, claimed(run_id))
    plane.pass_time(60)
    await plane.dispatcher.step()
    assert assigned(worker) == []
    assert plane.connections.holder(run_id) is worker


async def test_followers_hear_of_output_and_of_the_end(plane: Plane) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    execution_id = (await plane.run(run_id)).execution_id
    log = TaskLog(task_id=run_id, execution_id=execution_id, offset=0, text="hi")
    with plane.subscribers.subscribe(run_id) as changed:
        await plane.say(worker, log)
        assert changed.is_set()
        changed.clear()
        await plane.say(worker, log)
        assert not changed.is_set()
        await plane.say(worker, TaskCompleted(task_id=run_id, message=""))
        assert changed.is_set()


@pytest.mark.parametrize("offset", [-1, 2**60, 2**200])
async def test_output_at_an_impossible_place_is_left_out(plane: Plane, offset: int) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    execution_id = (await plane.run(run_id)).execution_id
    await plane.say(worker, TaskLog(task_id=run_id, execution_id=execution_id, offset=offset, text="hi"))
    assert (await plane.run(run_id)).state is RunState.PENDING


class GoneError(Exception):
    """The connection broke."""


async def consume(plane: Plane, worker: WorkerConnection, frames: list[str | bytes]) -> None:
    """Feed raw frames, then break the connection."""
    pending = list(frames)

    async def receive() -> str | bytes:
        if not pending:
            raise GoneError
        return pending.pop(0)

    with pytest.raises(GoneError):
        await plane.frame_handler.consume(worker, receive)


async def test_bad_frames_are_logged_by_kind_and_size_and_harm_nothing(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    bad: list[str | bytes] = [
        "",
        "{",
        "[]",
        b"\xff\xfe",
        '{"type": "secret_kind", "data": {"secret": "hunter2"}}',
        '{"type": "task_claimed", "data": {"task_id": ["hunter2"]}}',
        '{"type": "task_claimed"}',
        "x" * (16 * 1024 * 1024 + 1),
    ]
    with caplog.at_level(logging.INFO):
        await consume(plane, worker, [*bad, encode_frame(Heartbeat()), encode_frame(claimed(run_id))])
    assert (await plane.run(run_id)).state is RunState.CLAIMED
    said = [r.getMessage() for r in caplog.records if "is ignored" in r.getMessage()]
    subject = f"a frame of worker {worker} is ignored"
    assert [m[: len(subject) + 7] for m in said] == [f"{subject}: ? fra", f"{subject} again,"]  # K15
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("text", ["{", '{"type": "task_claimed", "data": {"task_id": ["hunter2"]}}'])
async def test_a_bad_frame_is_logged_by_kind_and_size(
    plane: Plane, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    worker = plane.worker()
    await consume(plane, worker, [text])
    kind = "task_claimed" if "task_claimed" in text else "?"
    assert f"a frame of worker {worker} is ignored: {kind} frame of {len(text)} bytes: " in caplog.text
    assert "hunter2" not in caplog.text


async def test_k15_offsets_that_no_output_has_are_not_a_line_each(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    worker = plane.worker()
    run_id = await assign(plane, worker)
    await plane.say(
        worker, *(TaskLog(task_id=run_id, execution_id="", offset=-n, text="x") for n in range(1, 50))
    )
    said = [m for m in caplog.messages if "is ignored for its offset" in m]
    assert len(said) == 2
    assert f"output of run {run_id}" in said[0]


async def test_a_log_line_cannot_be_forged(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    worker = plane.worker()
    with caplog.at_level(logging.INFO):
        await plane.say(worker, claimed("x\nINFO all is well"), TaskRejected(task_id="y\nz", reason=""))
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("error", [OperationalError("", None, Exception("disk full")), KeyError("defect")])
async def test_a_frame_that_cannot_be_stored_is_not_acknowledged_and_ends_the_connection(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    worker = plane.worker()
    run_id = await assign(plane, worker)
    monkeypatch.setattr(reports, "finish", fail)
    frame: WorkerFrame = TaskCompleted(task_id=run_id, message="", ack_id="1")
    await consume(plane, worker, [encode_frame(frame)])
    assert worker.closing.is_set()
    assert heard(worker) == []


async def test_what_was_received_is_finished_when_the_connection_breaks(plane: Plane) -> None:
    worker = plane.worker()
    ids = [await assign(plane, worker) for _ in range(20)]
    frames: list[str | bytes] = [encode_frame(TaskCompleted(task_id=i, message="")) for i in ids]
    await consume(plane, worker, frames)
    states = await asyncio.gather(*(plane.run(i) for i in ids))
    assert {run.state for run in states} == {RunState.SUCCEEDED}
    assert worker.runs == set()
