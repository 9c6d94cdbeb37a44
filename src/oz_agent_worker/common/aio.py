"""Helpers for asyncio tasks and events."""

import asyncio
import logging
from typing import Any, Final

__all__ = ["cancel_and_wait", "ends_before", "wait_first", "wait_for_event"]

logger: Final = logging.getLogger(__name__)


async def cancel_and_wait(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and return when all of them have ended; ``None`` is skipped.

    An error that a task ended with is logged, not raised.
    """
    present = [task for task in tasks if task is not None]
    for task in present:
        task.cancel()
    results = await asyncio.gather(*present, return_exceptions=True)
    for task, result in zip(present, results, strict=True):
        if isinstance(result, Exception):
            logger.error("%s failed", task.get_name(), exc_info=result)


async def wait_first(*tasks: "asyncio.Task[Any]") -> list[BaseException | None]:
    """Wait until one of the tasks ends, cancel the others, and return when all have ended.

    Returns the error of each task in their order: ``None`` where it returned or was cancelled.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [None if task.cancelled() else task.exception() for task in tasks]


async def ends_before(task: "asyncio.Task[Any]", event: asyncio.Event) -> bool:
    """Wait until the task ends or the event is set; return whether the task has ended.

    The task is neither cancelled nor asked for its result.
    """
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return task.done()


async def wait_for_event(event: asyncio.Event, timeout: float | None) -> bool:
    """Wait for an event for ``timeout`` seconds at most (``None``: without end); return whether it is set."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()
