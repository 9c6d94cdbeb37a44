"""Tests of the helpers for asyncio tasks and events."""

import asyncio
import logging

import pytest

from oz_agent_worker.common.aio import cancel_and_wait, ends_before, wait_first, wait_for_event


async def _fail() -> None:
    raise ValueError("broken")


async def test_cancel_and_wait_returns_when_the_tasks_have_cleaned_up() -> None:
    cleaned: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    tasks = [asyncio.create_task(work(name)) for name in "ab"]
    await asyncio.sleep(0)
    await cancel_and_wait(*tasks, None)
    assert cleaned == ["a", "b"]
    assert all(task.cancelled() for task in tasks)


async def test_cancel_and_wait_logs_the_error_of_a_task_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(_fail(), name="watcher")
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.ERROR, "watcher failed")]


async def test_cancel_and_wait_lets_its_own_cancellation_through() -> None:
    cleaning = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cleaning.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    closing = asyncio.create_task(cancel_and_wait(task))
    await cleaning.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_wait_first_cancels_the_others_and_returns_each_error_in_order() -> None:
    idle = asyncio.create_task(asyncio.Event().wait())
    errors = await wait_first(idle, asyncio.create_task(_fail()))
    assert idle.cancelled()
    assert errors[0] is None
    assert isinstance(errors[1], ValueError)


async def test_wait_first_has_no_error_where_the_first_task_returns() -> None:
    idle = asyncio.create_task(asyncio.Event().wait())
    assert await wait_first(asyncio.create_task(asyncio.sleep(0)), idle) == [None, None]


async def test_wait_first_ends_its_tasks_when_it_is_cancelled() -> None:
    idle = asyncio.create_task(asyncio.Event().wait())
    waiting = asyncio.create_task(wait_first(idle))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert idle.cancelled()


async def test_ends_before_returns_which_came_first_and_leaves_the_task_alone() -> None:
    event = asyncio.Event()
    idle = asyncio.create_task(asyncio.Event().wait())
    assert await ends_before(asyncio.create_task(asyncio.sleep(0)), event)
    event.set()
    assert not await ends_before(idle, event)
    assert not idle.done()
    idle.cancel()


async def test_wait_for_event_returns_whether_the_event_is_set() -> None:
    event = asyncio.Event()
    assert not await wait_for_event(event, 0)
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_for_event(event, None)
