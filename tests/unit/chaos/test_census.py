import asyncio

from oz_agent_worker.protocol.outcome import succeeded
from tests.chaos.census import take_census
from tests.unit.worker.scripted import Bench, settle


async def test_a_census_counts_what_there_is() -> None:
    before = take_census()
    waiting = asyncio.create_task(asyncio.sleep(60))
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    during = take_census()
    assert during["tasks"] == before["tasks"] + 1
    assert during["sockets"] == before["sockets"] + 1
    assert during["descriptors"] == before["descriptors"] + 1
    assert during["runs"] == 0
    waiting.cancel()
    server.close()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_what_a_worker_has_in_hand_is_counted() -> None:
    bench = Bench()
    bench.assign("a")
    bench.assign("b")
    await settle()
    assert take_census()["runs"] == 2
    for execution in bench.backend.executions.values():
        execution.ended.set_result(succeeded())
    await settle()
    await bench.finish()
    assert take_census()["runs"] == 0
