"""Waits for room in a quota of the namespace that refuses a task's Job or Secret."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.worker.backends.base import LaunchError

from .api.retry import GracePeriod, RetryPolicy, delays
from .job_creation import CreatedJob, NoRoomError
from .status.messages import capitalized

__all__ = ["QuotaWait", "created_when_there_is_room"]

_logger = logging.getLogger(__name__)

#: The pauses between two attempts. Other tasks end while one waits, and thousands may wait.
_PAUSES: Final = RetryPolicy(first=0.5, longest=15.0)
#: How long, in seconds, a task waits here at most: then it waits on in its queue, which must not take
#: its worker for lost (``controlplane.settings``, ``worker_grace``).
_LONGEST_WAIT: Final = 300.0
#: How many Jobs a message names at most.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaWait:
    """How long a task waits for room, and what it says of it.

    ``timeout`` is in seconds, 0 or less for no limit: that of a Pod without a node or without room. ``kept``
    gives the names of this worker's Jobs that have ended and still exist; ``ttl`` is after how many
    seconds they go, ``None`` for never.
    """

    namespace: str
    timeout: float
    kept: Callable[[], Sequence[str]]
    ttl: float | None
    pauses: RetryPolicy = _PAUSES


async def created_when_there_is_room(
    create: Callable[[], Awaitable[CreatedJob]], wait: QuotaWait, cancelled: asyncio.Event
) -> CreatedJob:
    """Call ``create`` until no quota refuses it.

    A task without a limit, or with a long one, goes back to its queue after five minutes.

    Raises:
        LaunchError: any but ``NoRoomError`` that ``create`` raised; that there was no room for
            ``wait.timeout`` seconds, with an outcome; or that the task was cancelled or goes back.
    """
    patience = GracePeriod(wait.timeout if wait.timeout > 0 else math.inf)
    here = GracePeriod(_LONGEST_WAIT)
    warned = False
    for delay in delays(wait.pauses):
        try:
            return await create()
        except NoRoomError as error:
            if patience.is_over():
                text = f"{capitalized(str(error))}, and had none in {wait.timeout:g} s. {_advice(wait)}"
                raise LaunchError(text, failed(FailureReason.JOB_CREATE, text)) from error
            if here.is_over():
                raise LaunchError(f"{error}. {_advice(wait)}") from error
            if not warned:
                warned = True
                _logger.warning("The task waits: %s. %s", error, _advice(wait))
            if await wait_for_event(cancelled, delay):
                raise LaunchError("the task was cancelled while it waited for room in a quota") from error
    raise AssertionError("delays never end")


def _advice(wait: QuotaWait) -> str:
    """Say what holds the quota, and how to make room."""
    kept = sorted(wait.kept())
    raise_it = (
        "Raise the quota, or backend.kubernetes.unschedulable_timeout where room comes free when other tasks"
        " end"
    )
    if not kept:
        return raise_it
    named = ", ".join(kept[:_NAMED]) + (f" and {len(kept) - _NAMED} more" if len(kept) > _NAMED else "")
    stay = "no TTL removes them" if wait.ttl is None else f"each goes {wait.ttl:g} s after its end"
    return (
        f"Jobs of this worker that have ended count too: {named} ({stay}). Delete them (kubectl -n"
        f" {wait.namespace} delete job NAME), or lower backend.kubernetes.ttl_seconds_after_finished."
        f" {raise_it}"
    )
