import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection

from oz_agent_worker.controlplane.store import keys, runs
from oz_agent_worker.controlplane.store.database import Database

from .support import T0, add_key, add_run, new_run


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    await database.write(add_key)
    yield database
    await database.close()


async def test_writes_are_applied_in_the_order_of_their_calls(database: Database) -> None:
    order: list[int] = []

    def note(_: Connection, number: int) -> int:
        order.append(number)
        return number

    futures = [database.write(note, number) for number in range(500)]
    assert await asyncio.gather(*futures) == list(range(500))
    assert order == list(range(500))


async def test_what_is_written_can_be_read_at_once(database: Database) -> None:
    new = new_run()
    await database.write(runs.create, new, {}, T0)
    assert await database.read(runs.exists, new.id)


async def test_closing_opens_no_transaction_of_its_own(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.open(database_url)
    opened: list[bool] = []
    monkeypatch.setattr(database._engine, "connect", lambda: opened.append(True))
    await database.close()
    assert opened == []


async def test_one_write_that_fails_takes_no_other_with_it(database: Database) -> None:
    def fail(connection: Connection) -> None:
        add_run(connection)
        raise LookupError("mine")

    good = [new_run() for _ in range(3)]
    futures: list[asyncio.Future[None]] = [database.write(runs.create, good[0], {}, T0)]
    failing = database.write(fail)
    futures += [database.write(runs.create, run, {}, T0) for run in good[1:]]
    await asyncio.gather(*futures)
    with pytest.raises(LookupError, match="mine"):
        await failing
    found = await database.read(runs.get_all, [run.id for run in good])
    assert [run.id for run in found] == [run.id for run in good]


async def test_closing_finishes_what_was_queued(database_url: str) -> None:
    database = await Database.open(database_url)
    future = database.write(add_key)
    await database.close()
    await future
    again = await Database.open(database_url)
    assert [key.name for key in await again.read(keys.list_keys)] == ["alice"]
    await again.close()


async def test_a_caller_that_gave_up_is_tolerated(database: Database) -> None:
    future = database.write(runs.create, new_run(), {}, T0)
    future.cancel()
    assert await database.write(lambda _: 7) == 7


async def test_readers_do_not_wait_for_the_writer(database: Database) -> None:
    loop = asyncio.get_running_loop()
    writing, done = asyncio.Event(), asyncio.Event()

    def slow(_: Connection) -> None:
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(done.wait(), loop).result()

    future = database.write(slow)
    await writing.wait()
    assert await database.read(keys.list_keys)
    done.set()
    await future
