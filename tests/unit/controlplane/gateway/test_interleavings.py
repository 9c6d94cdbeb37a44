"""What happens between two steps of the control plane: frames and broken connections at the worst moment."""

import asyncio

import pytest

from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.protocol.frames import TaskLog
from tests.unit.controlplane.dialogue import GRACE, claim, claimed_by, sent, state
from tests.unit.controlplane.plane import Plane, assigned, heard
from tests.unit.controlplane.store.support import HOST, OTHER_POD, POD

CLAIM_TIMEOUT = 30
STRANGER = Peer("x", "direct", "host/x")


@pytest.mark.parametrize("write", [1, 2])
async def test_a_claim_while_what_is_unclaimed_is_looked_after(plane: Plane, write: int) -> None:
    connection = await plane.connect(HOST)
    execution = await sent(plane, connection)
    plane.database.before_write(write, lambda: plane.say(connection, claim(execution)))
    await plane.step(CLAIM_TIMEOUT)
    if await state(plane, execution) is RunState.PENDING:  # the step had no such write
        await plane.say(connection, claim(execution))
    assert (await plane.run(execution.task_id)).lease_until is None
    # Its connection breaks much later: it has the whole grace from then on.
    await plane.step(GRACE - 1)
    await plane.leave(connection)
    await plane.step(GRACE - 1)
    assert await state(plane, execution) is RunState.CLAIMED


async def test_a_second_sending_that_is_never_written_leaves_the_first(plane: Plane) -> None:
    first = await plane.connect(HOST)
    execution = await sent(plane, first)  # its worker is starting it
    await plane.leave(first)
    second = await plane.connect(HOST)  # what is being started is not listed
    await plane.step()
    assert second.outgoing.qsize() == 1
    await plane.leave(second)
    assert await state(plane, execution) is RunState.PENDING
    stranger = await plane.connect(STRANGER)
    await plane.step(60)
    assert assigned(stranger) == []
    back = await plane.connect(HOST, execution)
    assert await state(plane, execution) is RunState.CLAIMED
    assert heard(back) == []


@pytest.mark.parametrize("peer", [HOST, POD])
async def test_a_second_sending_to_a_connection_that_breaks_meanwhile(plane: Plane, peer: Peer) -> None:
    first = await plane.connect(peer)
    execution = await sent(plane, first)
    await plane.leave(first)
    second = await plane.connect(peer)
    plane.database.before_write(1, lambda: plane.leave(second))
    await plane.step()
    await plane.stored()
    assert plane.connections.holder(execution.task_id) is None
    stranger = await plane.connect(STRANGER)
    await plane.step(60)
    assert assigned(stranger) == []
    assert await state(plane, execution) is RunState.PENDING
    # Whoever cannot start it twice is sent it once more.
    third = await plane.connect(peer)
    await plane.step()
    assert assigned(third) == [execution.task_id]


@pytest.mark.parametrize("frame_kind", ["claim", "output"])
async def test_a_connection_breaks_while_another_takes_its_run_over(plane: Plane, frame_kind: str) -> None:
    connection, execution = await claimed_by(plane, POD)
    other = await plane.connect(OTHER_POD)
    output = TaskLog(task_id=execution.task_id, execution_id=execution.execution_id, offset=0, text="x")
    frame = claim(execution) if frame_kind == "claim" else output
    applied = asyncio.create_task(plane.frame_handler.apply(other, frame))
    await asyncio.sleep(0)  # its write is queued
    plane.lease_keeper.disconnect(connection)
    await applied
    await plane.stored()
    assert plane.connections.holder(execution.task_id) is other
    assert (await plane.run(execution.task_id)).lease_until is None


async def test_a_claim_of_a_connection_that_broke_before_the_claim_of_the_next(plane: Plane) -> None:
    broken = await plane.connect(HOST)
    execution = await sent(plane, broken)
    back = plane.connections.connect("w", "key", plane.now)
    back.accept_hello(HOST, 0)
    both = [asyncio.create_task(plane.frame_handler.apply(c, claim(execution))) for c in (broken, back)]
    await asyncio.sleep(0)
    plane.lease_keeper.disconnect(broken)
    await asyncio.gather(*both)
    await plane.stored()
    assert plane.connections.holder(execution.task_id) is back
    assert (await plane.run(execution.task_id)).lease_until is None
