"""Reads the last part of a container's log with two requests at most, and without reading all of it.

The API cuts a log at its end (core/v1, PodLogOptions.limitBytes) or counts lines from its end
(``tailLines``). The first request has a bound in bytes, and a short log fits into it. Of a longer log
the second request reads as many lines from the end as the limit needs if they are as long as the
first ones. Where they are shorter, less than the limit is kept; where they are longer, more is read.

A log may go while it is read: its Pod is deleted, or the kubelet rotates the file and serves the
next one only. What was read before is kept, with a note about what is missing.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogTail

from .errors import ApiError
from .rest import Request

__all__ = ["read_end"]

#: The longest line that container runtimes write, in bytes. A longer line of the container is
#: several of these, and ``tailLines`` counts each.
_LONGEST_LINE: Final = 16 * 1024
#: Lines of the end may be a little shorter than those of the beginning.
_MARGIN: Final = 1.25
#: The most times that a log with timestamps is larger than its output: 31 bytes before each line feed.
_MOST_OVERHEAD: Final = 32
_ROTATED: Final = "the container's log was rotated meanwhile"


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
    share = min(_MARGIN * limit / max(first.size, 1), _MOST_OVERHEAD)
    wanted = math.ceil(first.lines * share) + bound // _LONGEST_LINE + 1
    try:
        last = await read(prepare(tail_lines=wanted))
    except ApiError as error:
        first.unread = str(error)
        return first
    if last.lines + last.received // _LONGEST_LINE >= wanted:
        last.starts_late = True
    elif not last.received:
        first.unread = _ROTATED
        return first
    elif last.received < bound:
        # This is the whole log, and it is shorter than before: what came first is of the file before it.
        first.go_on(last, f"{_ROTATED}, and a part of it may be missing here")
        return first
    return last
