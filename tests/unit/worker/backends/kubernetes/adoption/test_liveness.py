"""The API server's time, and whether the owners of Jobs are alive."""

import asyncio
import dataclasses
import math
from datetime import UTC, datetime, timedelta

import pytest

from oz_agent_worker.worker.backends.kubernetes.adoption.decision import Liveness
from oz_agent_worker.worker.backends.kubernetes.adoption.instance import Machine
from oz_agent_worker.worker.backends.kubernetes.adoption.liveness import LivenessSettings, ServerClock
from oz_agent_worker.worker.backends.kubernetes.adoption.self_identity import this_process
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from tests.unit.worker.backends.kubernetes.memory_api import Fault
from tests.virtual_time import START, in_virtual_time

from .bench import GONE, NOON, OWN, Bench


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_the_servers_time_advances_from_its_last_answer() -> None:
    clock = Clock()
    server = ServerClock(clock)
    server.update("Thu, 01 Jan 2026 12:00:00 GMT")
    assert server.known
    clock.seconds += 90
    assert server.now() == datetime(2026, 1, 1, 12, 1, 30, tzinfo=UTC)
    server.update("Thu, 01 Jan 2026 13:00:00 GMT")
    assert server.now() == datetime(2026, 1, 1, 13, tzinfo=UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_without_a_date_it_is_this_machines_time(date: str | None) -> None:
    server = ServerClock(Clock())
    server.update(date)
    assert not server.known
    assert abs(server.now() - datetime.now(UTC)) < timedelta(seconds=5)


# Owners ---------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_owner_that_is_alive_is_looked_up_later_each_time() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1")
    owners = await bench.owners()
    assert (owners.last_known(owner), owners.due_at(owner)) == (None, -math.inf)
    pauses = []
    for _ in range(5):
        assert await owners.look_up(owner) is Liveness.ALIVE
        pauses.append(owners.due_at(owner) - START)
    assert pauses == [3, 6, 12, 15, 15]


@in_virtual_time
async def test_a_worker_whose_pod_is_being_deleted_is_looked_up_every_second() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1", deletionTimestamp="2026-01-01T12:00:30Z")
    owners = await bench.owners()
    assert await owners.look_up(owner) is Liveness.ALIVE
    assert owners.due_at(owner) == START + 1


@pytest.mark.parametrize("owner", [GONE, str(OWN)])
@in_virtual_time
async def test_what_is_certain_is_not_looked_up_again(owner: str) -> None:
    bench = Bench()
    owners = await bench.owners()
    first = await owners.look_up(owner)
    assert first is (Liveness.GONE if owner == GONE else Liveness.SELF)
    assert owners.due_at(owner) == math.inf
    bench.put_worker("worker-9")
    assert await owners.look_up(owner) is first
    assert len(bench.lookups) == (owner == GONE)


@in_virtual_time
async def test_a_failed_look_up_keeps_the_last_result() -> None:
    bench = Bench()
    owner = bench.put_worker("worker-1")
    owners = await bench.owners()
    bench.api.fail("GET pods", Fault(500, "etcd is gone", "InternalError"))
    with pytest.raises(ApiError):
        await owners.look_up(owner)
    assert (owners.last_known(owner), owners.due_at(owner)) == (None, START + 3)
    await owners.look_up(owner)
    bench.api.fail("GET pods", Fault(500, "etcd is gone", "InternalError"))
    with pytest.raises(ApiError):
        await owners.look_up(owner)
    assert owners.last_known(owner) is Liveness.ALIVE


@in_virtual_time
async def test_a_refusal_counts_when_it_has_lasted() -> None:
    bench = Bench(settings=LivenessSettings(refusal_patience=5.0, refused=60.0))
    owner = bench.put_worker("worker-1")
    owners = await bench.owners()
    bench.api.fail("GET pods", Fault(403, 'forbidden: User "w" cannot get resource "pods"'), times=3)
    for _ in range(2):
        with pytest.raises(ApiError):
            await owners.look_up(owner)
        await asyncio.sleep(2.5)
    assert await owners.look_up(owner) is Liveness.UNKNOWN
    assert owners.due_at(owner) == START + 65
    assert await owners.look_up(owner) is Liveness.ALIVE


@in_virtual_time
async def test_an_answer_between_two_refusals_starts_the_time_again() -> None:
    bench = Bench(settings=LivenessSettings(refusal_patience=5.0))
    owner = bench.put_worker("worker-1")
    owners = await bench.owners()
    refusal = Fault(403, 'forbidden: User "w" cannot get resource "pods"')
    for pause in (4, 4, 0):
        bench.api.fail("GET pods", refusal)
        with pytest.raises(ApiError):
            await owners.look_up(owner)
        assert await owners.look_up(owner) is Liveness.ALIVE
        await asyncio.sleep(pause)


@in_virtual_time
async def test_owners_without_jobs_are_forgotten() -> None:
    bench = Bench()
    one, two = bench.put_worker("worker-1"), bench.put_worker("worker-2")
    owners = await bench.owners()
    for owner in (one, two, None):
        await owners.look_up(owner)
    owners.keep_only({one})
    assert [owners.last_known(owner) for owner in (one, two, None)] == [Liveness.ALIVE, None, None]


@pytest.mark.parametrize("dead", [False, True])
@in_virtual_time
async def test_a_process_of_this_machine_is_looked_for_here(dead: bool) -> None:
    owners = await Bench().owners()
    own = this_process(Machine("here", "boot"))
    process = dataclasses.replace(own, started="1") if dead else own
    assert await owners.look_up(str(process)) is (Liveness.GONE if dead else Liveness.ALIVE)
    assert owners.due_at(str(process)) == (math.inf if dead else START + 3)


@in_virtual_time
async def test_each_answer_about_a_pod_carries_the_servers_time() -> None:
    bench, server = Bench(), ServerClock(asyncio.get_running_loop().time)
    owners = await bench.owners(server)
    await asyncio.sleep(90)
    await owners.look_up(bench.put_worker("worker-1"))
    assert server.now() == NOON + timedelta(seconds=90)
