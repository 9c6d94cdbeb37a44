"""Waiting for what other processes do."""

import asyncio
import time
from collections.abc import Callable

from .errors import BenchError

__all__ = ["until"]

#: Seconds between two looks. Nothing is timed by them: what happens has its time noted as it happens.
_PAUSE = 0.02


async def until(
    what: str,
    holds: Callable[[], bool],
    *alive: Callable[[], None],
    timeout: float,
    seen: Callable[[], object] = lambda: "not at all",
) -> None:
    """Look again and again until ``holds``.

    ``alive`` are asked before every look: each raises BenchError where waiting is pointless,
    such as for a process that has died. ``seen`` says in the error how far it came.

    Raises:
        BenchError: it does not hold after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        for check in alive:
            check()
        if holds():
            return
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not so after {timeout:.0f} s, but {seen()}")
        await asyncio.sleep(_PAUSE)
