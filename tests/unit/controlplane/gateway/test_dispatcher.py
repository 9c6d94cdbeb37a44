import asyncio
import logging
from collections import Counter
from contextlib import suppress
from itertools import chain

import pytest
from sqlalchemy.exc import OperationalError

from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import keys, queue
from oz_agent_worker.controlplane.store.keys import hash_token
from oz_agent_worker.protocol.frames import TaskAssignment, TaskClaimed
from tests.timeouts import HANG_TIMEOUT
from tests.unit.controlplane.plane import Plane, assigned, heard


async def test_nothing_to_do_means_no_timer(plane: Plane) -> None:
    await plane.queue()
    assert await plane.dispatcher.step() is None


async def test_a_waiting_run_goes_to_a_worker(plane: Plane) -> None:
    run_id, worker = await plane.queue(), plane.worker()
    delay = await plane.dispatcher.step()
    (frame,) = heard(worker)
    assert isinstance(frame, TaskAssignment)
    assert (frame.task_id, frame.execution_id) == (run_id, (await plane.run(run_id)).execution_id)
    assert (await plane.run(run_id)).state is RunState.PENDING
    assert plane.connections.holder(run_id) is worker
    assert delay == pytest.approx(30, abs=0.01)


async def test_the_token_in_the_assignment_is_the_runs(plane: Plane) -> None:
    run_id, worker = await plane.queue(), plane.worker()
    await plane.dispatcher.step()
    (frame,) = heard(worker)
    assert isinstance(frame, TaskAssignment)
    token = (frame.env_vars or {})["WARP_API_KEY"]
    assert token is not None
    found = await plane.database.read(keys.find_workload, hash_token(token))
    assert found == run_id


async def test_hundreds_of_runs_are_shared_in_one_step(plane: Plane) -> None:
    ids = [await plane.queue() for _ in range(200)]
    one, two, three = plane.worker(limit=20), plane.worker(), plane.worker()
    await plane.dispatcher.step()
    shares = [assigned(one), assigned(two), assigned(three)]
    assert sorted(chain.from_iterable(shares)) == sorted(ids)
    assert [len(share) for share in shares] == [20, 90, 90]


async def test_a_full_host_holds_up_no_other(plane: Plane) -> None:
    plane.worker("full", limit=1)
    for _ in range(200):
        await plane.queue("full")
    other, free = await plane.queue("free"), plane.worker("free")
    await plane.dispatcher.step()
    assert assigned(free) == [other]


async def test_a_run_for_an_absent_worker_waits_for_it(plane: Plane) -> None:
    run_id, stranger = await plane.queue("mine"), plane.worker("stranger")
    assert await plane.dispatcher.step() is None
    assert assigned(stranger) == []
    mine = plane.worker("mine")
    await plane.dispatcher.step()
    assert assigned(mine) == [run_id]


async def test_two_connections_of_one_worker_take_turns(plane: Plane) -> None:
    one, two = plane.worker("w"), plane.worker("w")
    for _ in range(10):
        await plane.queue("w")
    await plane.dispatcher.step()
    assert Counter({1: len(assigned(one)), 2: len(assigned(two))}) == {1: 5, 2: 5}


async def test_an_unclaimed_run_goes_to_the_next_worker(plane: Plane) -> None:
    run_id, silent = await plane.queue(), plane.worker("silent")
    await plane.dispatcher.step()
    assert assigned(silent) == [run_id]
    plane.pass_time(30)
    delay = await plane.dispatcher.step()
    assert (await plane.run(run_id)).state is RunState.QUEUED
    assert plane.connections.holder(run_id) is None
    assert delay == pytest.approx(1, abs=0.01)
    healthy = plane.worker("healthy")
    plane.pass_time(1)
    await plane.dispatcher.step()
    assert assigned(healthy) == [run_id]
    assert assigned(silent) == []  # it failed to answer: others come first


async def test_a_claimed_run_is_left_alone(plane: Plane) -> None:
    run_id, worker = await plane.queue(), plane.worker()
    await plane.dispatcher.step()
    await plane.say(worker, TaskClaimed(task_id=run_id, worker_id="w"))
    plane.pass_time(3600)
    assert await plane.dispatcher.step() is None
    assert (await plane.run(run_id)).state is RunState.CLAIMED


async def test_the_loop_wakes_at_events(plane: Plane) -> None:
    worker = plane.worker()
    running = asyncio.create_task(plane.dispatcher.run())
    run_id = await plane.queue()
    plane.woken.set()
    frame = await asyncio.wait_for(worker.outgoing.get(), HANG_TIMEOUT)
    assert isinstance(frame, TaskAssignment)
    assert frame.task_id == run_id
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("error", [OperationalError("", None, Exception("disk full")), KeyError("defect")])
async def test_the_loop_outlives_what_fails(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    worker, run_id = plane.worker(), await plane.queue()
    with monkeypatch.context() as broken:
        broken.setattr("oz_agent_worker.controlplane.gateway.dispatcher._RETRY_SECONDS", 0.01)
        broken.setattr(queue, "queued", fail)
        running = asyncio.create_task(plane.dispatcher.run())
        await asyncio.sleep(0.05)
        assert not running.done()
        assert assigned(worker) == []
        broken.undo()
        frame = await asyncio.wait_for(worker.outgoing.get(), HANG_TIMEOUT)
    assert isinstance(frame, TaskAssignment)
    assert frame.task_id == run_id
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("error", "traceback"),
    [
        pytest.param(OperationalError("", None, Exception("disk full")), False, id="K15: database"),
        pytest.param(KeyError("defect"), True, id="K15: defect"),
        pytest.param(TimeoutError("pool"), True, id="K15: timeout"),
    ],
)
async def test_a_database_that_is_away_is_said_once_and_so_is_its_return(
    plane: Plane,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    traceback: bool,
) -> None:
    caplog.set_level(logging.INFO)
    tries = 0

    def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise error

    monkeypatch.setattr("oz_agent_worker.controlplane.gateway.dispatcher._RETRY_SECONDS", 0.001)
    worker = plane.worker()
    await plane.queue()
    with monkeypatch.context() as broken:
        broken.setattr(queue, "queued", fail)
        running = asyncio.create_task(plane.dispatcher.run())
        async with asyncio.timeout(HANG_TIMEOUT):
            while tries < 10:
                await asyncio.sleep(0.001)
    async with asyncio.timeout(HANG_TIMEOUT):
        await worker.outgoing.get()
        while "works again" not in caplog.text:
            await asyncio.sleep(0.001)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    first, *rest = [r for r in caplog.records if r.getMessage().startswith("dispatching ")]
    assert first.getMessage().startswith(f"dispatching failed with {type(error).__name__}: ")
    assert (first.levelname, bool(first.exc_info)) == ("ERROR", traceback)
    assert [r.getMessage()[:26] for r in rest] == ["dispatching works again, a"]
