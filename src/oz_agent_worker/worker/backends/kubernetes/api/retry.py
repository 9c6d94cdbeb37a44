"""Asking again: which errors, how often, how long."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from oz_agent_worker.common.backoff import full_jitter

from .errors import ApiError

__all__ = ["ONCE", "RetryPolicy", "delays", "retrying"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a request is; all in seconds.

    ``budget`` counts from the first failure, so that waiting for a free connection in a
    burst spends nothing of it. The ceiling of the delays doubles from ``first`` to ``longest``.
    """

    budget: float = 30.0
    first: float = 0.2
    longest: float = 5.0


#: For callers that come again by themselves.
ONCE: Final = RetryPolicy(budget=0.0)


def delays(policy: RetryPolicy, jitter: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield the policy's delays for ever, in seconds."""
    return full_jitter(policy.first, policy.longest, jitter)


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[float, float], float] = random.uniform,
) -> T:
    """Call ``attempt`` until it succeeds, fails for good, or the budget does not allow another.

    A server's Retry-After is a minimum for the next delay.

    Raises:
        ApiError: the last attempt's.
    """
    deadline: float | None = None
    for delay in delays(policy, jitter):
        try:
            return await attempt()
        except ApiError as error:
            if not error.transient:
                raise
            now = clock()
            deadline = now + policy.budget if deadline is None else deadline
            pause = max(delay, error.retry_after or 0.0)
            if now + pause >= deadline:
                raise
        await sleep(pause)
    raise AssertionError("delays never end")
