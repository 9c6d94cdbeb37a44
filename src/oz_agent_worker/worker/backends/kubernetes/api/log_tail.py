"""Reads a container's log, or its last part with a few requests and without reading all of it.

The API cuts a log at its end (core/v1, PodLogOptions.limitBytes) or counts lines from its end
(``tailLines``). The first request has a bound in bytes, and a short log fits into it. Of a longer log
few lines are requested, and then, judging by their size, enough of them to hold the limit.

A log may go while it is read: its Pod is deleted, or the kubelet rotates the file and serves the
next one only. What was read before is kept, with a note about what is missing.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import BEGINNING, LogPosition
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import ROTATED, LogTail

from .errors import ApiError, LogError
from .rest import Request
from .retry import RetryPolicy, retrying

__all__ = ["read_end", "read_log"]

#: The longest entry that container runtimes write by default, in bytes. A longer line of the container
#: is several entries, and ``tailLines`` counts each. How long they are decides only how much is read.
_LONGEST_ENTRY: Final = 16 * 1024
#: Earlier lines may be a little shorter than the last ones.
_MARGIN: Final = 1.25
#: By how much the number of lines grows from one request to the next: doubling bounds the number of
#: requests, and the last few lines may be far shorter than those before them.
_LEAST_GROWTH: Final = 2
_MOST_GROWTH: Final = 256


async def read_log(
    prepare: Callable[..., Request],
    receive: Callable[[Request, LogTail], Awaitable[None]],
    *,
    limit: int,
    after: LogPosition | None,
    policy: RetryPolicy,
    total: float,
) -> LogTail:
    """Read a log, or what follows the position ``after``, and keep ``limit`` bytes of its end.

    ``prepare``: see ``read_end``. ``receive`` sends a request once and feeds the answer. Each request
    is retried by the ``policy``. All of it takes ``total`` seconds at most; what was received of the
    rest of a log by then, or before it was gone, is kept.

    Raises:
        LogError: nothing came in time, or the kubelet's error came in place of the log.
        ApiError: nothing of it can be read.
    """
    is_rest = after is not None and after != BEGINNING
    kept: LogTail | None = None

    async def read_once(request: Request) -> LogTail:
        nonlocal kept
        log = LogTail(limit, after)
        try:
            await receive(request, log)
        finally:
            if kept is None or log.size > kept.size:
                kept = log
        log.end()
        if log.error and not log.size:
            raise LogError(f"the kubelet: {log.error}")
        return log

    async def read(request: Request) -> LogTail:
        return await retrying(partial(read_once, request), policy)

    try:
        async with asyncio.timeout(total):
            # The lines before a position are counted from its second on: no tail of the log will do.
            return await (read(prepare()) if is_rest else read_end(prepare, read, limit))
    except (ApiError, TimeoutError) as problem:
        error = problem if isinstance(problem, ApiError) else LogError(f"no answer in {total:g} s")
        if not is_rest or kept is None or not kept.size:
            raise error from problem
        kept.unread = str(error)
        return kept


async def read_end(
    prepare: Callable[..., Request], read: Callable[[Request], Awaitable[LogTail]], limit: int
) -> LogTail:
    """Read a log whole where it is short, and else its last lines, and keep ``limit`` bytes of the output.

    ``prepare`` makes a request with ``limit_bytes`` or ``tail_lines``; ``read`` sends it and keeps the last
    ``limit`` bytes of its answer.

    Raises:
        ApiError: nothing of it can be read.
    """
    bound = 2 * limit
    first = await read(prepare(limit_bytes=bound))
    if first.received < bound:
        return first
    best, before, lines = first, 0, limit // _LONGEST_ENTRY + 1
    while True:
        try:
            tail = await read(prepare(tail_lines=lines))
        except ApiError as error:
            first.unread = str(error)
            return best
        if not tail.received:
            first.unread = ROTATED
            return best
        tail.starts_late = True
        if tail.size > limit:
            return tail
        # No line is empty, so more lines than the limit has bytes are the whole log.
        if tail.received == before or lines > limit:
            break
        best, before = tail, tail.received
        growth = _MARGIN * limit / max(tail.size, 1)
        lines = math.ceil(lines * min(max(growth, _LEAST_GROWTH), _MOST_GROWTH))
    tail.starts_late = False
    if tail.received < bound:
        # The whole log is shorter than before: what came first is of the file before it.
        first.go_on(tail)
        return first
    return tail
