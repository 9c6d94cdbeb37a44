"""The tests' own virtual time."""

import asyncio
import time

import pytest

from tests.virtual_time import START, StandstillError, in_virtual_time, run_in_virtual_time


@in_virtual_time
async def test_hours_pass_at_once_and_exactly() -> None:
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((name, time.monotonic() - START))

    await asyncio.gather(sleeper("late", 36_000.1), sleeper("soon", 0.1), sleeper("later", 7200))
    assert [name for name, _ in order] == ["soon", "later", "late"]
    assert [passed for _, passed in order] == pytest.approx([0.1, 7200, 36_000.1])
    assert asyncio.get_running_loop().time() == pytest.approx(START + 36_000.1)


@in_virtual_time
async def test_a_time_out_ends_what_waits_without_end() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300):
            await asyncio.Event().wait()
    assert time.monotonic() == pytest.approx(START + 300)


def test_a_standstill_is_an_error() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StandstillError):
        run_in_virtual_time(waits())


def test_afterwards_time_is_real_again() -> None:
    async def sleeps() -> str:
        await asyncio.sleep(1e9)
        return "done"

    before = time.monotonic()
    assert run_in_virtual_time(sleeps()) == "done"
    assert time.monotonic() - before < 1e6
