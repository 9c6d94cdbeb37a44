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
from typing import Final, NamedTuple, Protocol, TypeVar

from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogRest, LogTail

from .errors import ApiError
from .rest import Request

__all__ = ["LogAnswer", "LogT", "ReadInto", "read_end"]

LogT = TypeVar("LogT", LogTail, LogRest)

#: The longest line that container runtimes write, in bytes. A longer line of the container is
#: several of these, and ``tailLines`` counts each.
_LONGEST_LINE: Final = 16 * 1024
#: Lines of the end may be a little shorter than those of the beginning.
_MARGIN: Final = 1.25
#: The most times that a log with timestamps is larger than its output: 31 bytes before each line feed.
_MOST_OVERHEAD: Final = 32
_ROTATED: Final = "the container's log was rotated meanwhile"


class LogAnswer(NamedTuple):
    """What one request gave: how many bytes and line feeds, timestamps included."""

    received: int
    lines: int


class ReadInto(Protocol):
    """Sends a request and feeds the answer to a reader that it makes, one for each attempt.

    Raises:
        ApiError: the log cannot be read.
    """

    def __call__(self, request: Request, reader: Callable[[], LogT], /) -> Awaitable[tuple[LogT, LogAnswer]]:
        """Send the request, and read its answer to the end."""
        ...


async def read_end(
    ask: Callable[..., Request], read_into: ReadInto, reader: Callable[[], LogT], limit: int
) -> LogT:
    """Read a log whole where it is short, and else its last lines, and keep ``limit`` bytes of the output.

    ``ask`` prepares a request with ``limit_bytes`` or ``tail_lines``; ``reader`` makes what keeps the
    output.

    Raises:
        ApiError: nothing of it can be read.
    """
    bound = 2 * limit
    first, answer = await read_into(ask(limit_bytes=bound), reader)
    if answer.received < bound:
        return first
    share = min(_MARGIN * limit / max(first.size, 1), _MOST_OVERHEAD)
    wanted = math.ceil(answer.lines * share) + bound // _LONGEST_LINE + 1
    try:
        last, answer = await read_into(ask(tail_lines=wanted), reader)
    except ApiError as error:
        first.cut_short(str(error))
        return first
    if answer.lines + answer.received // _LONGEST_LINE >= wanted:
        last.starts_late()
    elif not answer.received:
        first.cut_short(_ROTATED)
        return first
    elif answer.received < bound:
        # This is the whole log, and it is shorter than before: what came first is of the file before it.
        first.go_on(last, f"{_ROTATED}, and a part of it may be missing here")
        return first
    return last
