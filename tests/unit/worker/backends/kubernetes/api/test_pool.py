"""A pool ends with its last request, and not before (K1)."""

import asyncio
from typing import cast

import aiohttp

from oz_agent_worker.worker.backends.kubernetes.api.pool import Pool


class Session:
    """Counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


def a_pool() -> tuple[Pool, Session]:
    session = Session()
    return Pool(cast("aiohttp.ClientSession", session), 1), session


async def test_k1_a_retired_pool_is_closed_after_its_last_request() -> None:
    pool, session = a_pool()
    with pool.in_use() as given:
        assert cast("object", given) is session
        with pool.in_use():
            pool.retire()
        await asyncio.sleep(0)
        assert (session.closed, pool.closed) == (0, False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (session.closed, pool.closed) == (1, True)


async def test_k1_a_retired_pool_without_requests_is_closed_at_once() -> None:
    pool, session = a_pool()
    pool.retire()
    pool.retire()
    await pool.close()
    assert session.closed == 1


async def test_a_pool_in_use_stays_open_until_the_client_is_closed() -> None:
    pool, session = a_pool()
    with pool.in_use():
        pass
    await asyncio.sleep(0)
    assert session.closed == 0
    with pool.in_use():
        pool.retire()
        await pool.close()
    assert (session.closed, pool.closed) == (1, True)
