"""When a request is sent again: which errors, how often, for how long.

Three ways, by what depends on the request. ``retrying`` gives up when its budget is spent.
``retry_until_decided`` continues until the API server has decided. ``GracePeriod`` leaves the
loop to its caller.

An API server that has just started refuses everything for a moment: it answers before its RBAC
authorizer has read its roles and bindings. So a missing permission is believed only once it has
lasted.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from oz_agent_worker.common.backoff import full_jitter
from oz_agent_worker.common.fault_log import FaultLog

from .errors import ApiError, ApiStatusError, ForbiddenError, UnauthorizedError

__all__ = [
    "ONCE",
    "REFUSAL_PATIENCE",
    "GracePeriod",
    "RetryPolicy",
    "delays",
    "is_about_the_worker",
    "is_explained",
    "is_missing_permission",
    "retry_until_decided",
    "retrying",
]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long, in seconds, a permission that is refused may still be granted. An API server on a
#: busy machine takes one or two seconds to read its roles.
REFUSAL_PATIENCE: Final = 5.0
#: Seconds between two requests of a worker that is refused.
_REFUSAL_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is sent again; all in seconds.

    ``budget`` counts from the first failure, so that waiting for a free connection in a
    burst spends nothing of it. The ceiling of the delays doubles from ``first`` to ``longest``.
    """

    budget: float = 30.0
    first: float = 0.2
    longest: float = 5.0


#: For callers with a retry loop of their own.
ONCE: Final = RetryPolicy(budget=0.0)


def is_missing_permission(error: ApiError) -> bool:
    """Whether RBAC (or another authorizer) refused the request; a quota or admission webhook did not."""
    # The text is that of k8s.io/apiserver (endpoints/handlers/responsewriters: ForbiddenStatusError).
    return isinstance(error, ForbiddenError) and 'User "' in error.message and '" cannot ' in error.message


def is_about_the_worker(error: ApiError) -> bool:
    """Whether the API server refused the worker's identity or permissions, not the object of one task.

    The preflight has shown that the worker is allowed, so this passes or an operator has to fix it.
    No task fails for it.
    """
    return is_missing_permission(error) or isinstance(error, UnauthorizedError)


def is_explained(error: ApiError) -> bool:
    """Whether the API server answered that it refuses for now, and why: nothing was done."""
    return isinstance(error, ApiStatusError) and error.transient and not error.ambiguous


class GracePeriod:
    """The time, counted from the first failure, in which a failure may still pass.

    ``seconds`` is its length. ``clock`` (``time.monotonic``) gives seconds and never runs backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] | None = None) -> None:
        self._seconds = seconds
        self._clock = clock or time.monotonic
        self._ends_at: float | None = None

    def is_over(self, ahead: float = 0.0) -> bool:
        """Whether the period is over, or will be in ``ahead`` seconds. The first call starts it."""
        now = self._clock()
        if self._ends_at is None:
            self._ends_at = now + self._seconds
        return now + ahead >= self._ends_at

    def covers(self, error: ApiError) -> bool:
        """Whether ``error`` is a missing permission that may still be granted; starts the period if so."""
        return is_missing_permission(error) and not self.is_over()

    def reset(self) -> None:
        """Note a success: the next failure starts a period of its own."""
        self._ends_at = None


def delays(policy: RetryPolicy, jitter: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield the policy's delays for ever, in seconds."""
    return full_jitter(policy.first, policy.longest, jitter)


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    clock: Callable[[], float] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[float, float], float] = random.uniform,
) -> T:
    """Call ``attempt`` until it succeeds, fails permanently, or the budget does not allow another.

    A server's Retry-After is a minimum for the next delay.

    Raises:
        ApiError: the last attempt's.
    """
    budget = GracePeriod(policy.budget, clock)
    for delay in delays(policy, jitter):
        try:
            return await attempt()
        except ApiError as error:
            pause = max(delay, error.retry_after or 0.0)
            if not error.transient or budget.is_over(ahead=pause):
                raise
        await sleep(pause)
    raise AssertionError("delays never end")


async def retry_until_decided(
    send: Callable[[], Awaitable[None]],
    what: str,
    *,
    patience: float,
    wanted: Callable[[], bool] = lambda: True,
    explained_is_final: bool = False,
) -> None:
    """Call ``send`` until it succeeds, or is not ``wanted`` any more, however long the API server is away.

    For requests that something depends on: the deletion of a Job, the Secret that a Pod waits for.
    ``send`` has the client's own retries and pauses. ``what`` names the request in the log, in which
    each kind of failure is said once, and what lasts once an hour.
    A refusal of the worker itself may pass for ``patience`` seconds. With ``explained_is_final``, so may
    one that the API server explains (``is_explained``).

    Raises:
        ApiError: the API server refused.
    """
    refused = GracePeriod(patience)
    faults = FaultLog(_logger, what)
    while wanted():
        try:
            await send()
            return
        except ApiError as error:
            if is_about_the_worker(error) or (explained_is_final and is_explained(error)):
                if refused.is_over():
                    raise
                await asyncio.sleep(_REFUSAL_PAUSE)
            elif not error.transient:
                raise
            status = f" with HTTP {error.code}" if isinstance(error, ApiStatusError) else ""
            faults.failed(f"failed{status} and is tried again", error)
