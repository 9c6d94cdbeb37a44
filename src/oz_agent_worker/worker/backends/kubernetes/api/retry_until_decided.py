"""Asking the API server until it has decided, however long it is away.

For what must come about because something depends on it: a Job that is to go, a Secret for
which a Pod waits. A request that may as well fail has a policy (``api.retry``) and no more.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from .errors import ApiError
from .refusals import is_about_the_worker

__all__ = ["retry_until_decided"]

_logger = logging.getLogger(__name__)

#: Seconds between two questions of a worker that is refused: RBAC rules are read within a few.
_REFUSAL_PAUSE = 1.0


async def retry_until_decided(
    ask: Callable[[], Awaitable[None]],
    what: str,
    *,
    patience: float,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Ask until it is done or not ``wanted`` any more.

    ``ask`` has the client's own retries, and so its own pauses. ``patience`` is for how many
    seconds a refusal of the worker itself counts as passing.

    Raises:
        ApiError: the API server refused.
    """
    give_up_at: float | None = None
    while wanted():
        try:
            await ask()
        except ApiError as error:
            if is_about_the_worker(error):
                now = time.monotonic()
                give_up_at = now + patience if give_up_at is None else give_up_at
                if now >= give_up_at:
                    raise
                await asyncio.sleep(_REFUSAL_PAUSE)
            elif not error.transient:
                raise
            _logger.warning("%s: asking again: %s", what, error)
        else:
            return
