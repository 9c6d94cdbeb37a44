"""Reads the end of a container's log in as few requests as that takes (``longlogs``).

A log may go while it is read: its Pod is deleted, or the kubelet begins another file, and serves that
one alone. What was read until then is kept, with a word on what is missing.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogRest, LogTail

from .errors import ApiError
from .log_tail_bounds import first_bound, first_lines, more_lines
from .rest import Request

__all__ = ["LogT", "ReadInto", "read_end"]

LogT = TypeVar("LogT", LogTail, LogRest)

_ROTATED: Final = "the container's log was rotated meanwhile"


class ReadInto(Protocol):
    """Reads an answer into a reader that it makes itself, and counts its bytes.

    Raises:
        ApiError: it cannot be read.
    """

    def __call__(self, request: Request, reader: Callable[[], LogT], /) -> Awaitable[tuple[LogT, int]]:
        """Send the request, and read its answer to the end."""
        ...


async def read_end(
    ask: Callable[..., Request], read_into: ReadInto, reader: Callable[[bool], LogT], limit: int
) -> LogT:
    """Read a log whole where it is short, and else its last lines, until they hold ``limit`` bytes.

    ``ask`` prepares a request with ``limit_bytes`` or ``tail_lines``; ``reader`` makes what keeps the
    output, and is told whether that is fed from the log's beginning on, or from later.

    Raises:
        ApiError: nothing of it can be read.
    """
    bound = first_bound(limit)
    first, received = await read_into(ask(limit_bytes=bound), lambda: reader(False))
    if received < bound:
        return first
    best, before, lines = first, 0, first_lines(limit)
    while True:
        request = ask(tail_lines=lines)
        try:
            log, received = await read_into(request, lambda: reader(True))
        except ApiError as error:
            best.cut_short(str(error))
            return best
        if not received:
            best.cut_short(_ROTATED)
            return best
        best = log
        more = more_lines(lines, limit, weight=log.size) if received != before else None
        if more is None:
            break
        before, lines = received, more
    if received < bound and best.size < limit:
        # That is all there is, and less than there was: what came first is of a file before it.
        first.go_on(best, f"{_ROTATED}, and a part of it may be missing here")
        return first
    return best
