"""Joins the parts of a container's log that is read in several requests: no gap, no repetition. Pure.

Logs are requested with a timestamp before each line (core/v1, PodLogOptions.timestamps), and after an
interruption from the second of the last line on (``sinceTime`` has no fractions of a second). Lines
that were read before are recognized by their timestamps and left out. Byte counts cannot do that: the
kubelet rotates logs, and then serves another beginning.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["BEGINNING", "LogPosition", "LogReader"]

#: The longest and the shortest timestamp, in bytes; RFC 3339 with nanoseconds and an offset has 35.
_LONGEST_STAMP: Final = 40
_SHORTEST_STAMP: Final = len("2026-01-01T00:00:00Z")


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a log was read.

    ``time`` is that of the latest line, ``lines`` the number of whole lines with this time that were
    read, and ``length`` the number of bytes of one more line that is not complete.
    """

    time: datetime | None = None
    lines: int = 0
    length: int = 0

    @property
    def since(self) -> str | None:
        """The ``sinceTime`` to continue from (RFC 3339); ``None`` at the beginning."""
        if self.time is None:
            return None
        return self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


BEGINNING: Final = LogPosition()


class LogReader:
    """Removes the timestamps of a log, and the lines up to a position.

    Lines older than the position are left out until the first line that is newer. Text without a
    timestamp, such as the kubelet's message that it cannot read a log, is kept.
    """

    def __init__(self, after: LogPosition = BEGINNING) -> None:
        self._resume: LogPosition | None = after if after.time is not None else None
        self._met = 0  # lines found with the time of the position
        self._time = after.time
        self._lines = after.lines
        self._length = after.length
        self._head = b""  # the beginning of a line while its timestamp is not complete
        self._in_line = False
        self._counted = False  # whether the current line has the position's time
        self._skip: int | None = 0  # bytes of the current line to leave out; None is all of it

    @property
    def position(self) -> LogPosition:
        """How far the log was read."""
        return LogPosition(self._time, self._lines, self._length)

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the log; return the output that they contain."""
        *lines, rest = chunk.split(b"\n")
        output = [self._take(line, ended=True) for line in lines]
        if rest:
            output.append(self._take(rest, ended=False))
        return b"".join(output)

    def _take(self, piece: bytes, *, ended: bool) -> bytes:
        if not self._in_line:
            piece = self._head + piece
            stamp, space, text = piece.partition(b" ")
            if not space and not ended and len(piece) < _LONGEST_STAMP:
                self._head = piece
                return b""
            self._head = b""
            time = _time(stamp)
            self._begin(time)
            piece = piece if time is None else text
        return self._content(piece + b"\n" if ended else piece, ended=ended)

    def _begin(self, time: datetime | None) -> None:
        """Decide which part of the line that begins was read before."""
        self._in_line = True
        self._skip = 0
        self._counted = time is not None and (self._time is None or time >= self._time)
        if time is None:
            return
        if self._resume is not None:
            self._skip = self._known(time, self._resume)
        if self._time is None or time > self._time:
            self._time, self._lines, self._length = time, 0, 0

    def _known(self, time: datetime, resume: LogPosition) -> int | None:
        assert resume.time is not None
        if time < resume.time:
            return None
        if time > resume.time:
            self._resume = None
            return 0
        self._met += 1
        if self._met <= resume.lines:
            return None
        return resume.length if self._met == resume.lines + 1 else 0

    def _content(self, piece: bytes, *, ended: bool) -> bytes:
        output = b""
        if self._skip is not None:
            output = piece[self._skip :]
            self._skip = max(0, self._skip - len(piece))
            if self._counted:
                self._length += len(output)
        if ended:
            if self._counted and self._skip is not None:
                self._lines, self._length = self._lines + 1, 0
            self._in_line = False
        return output


def _time(stamp: bytes) -> datetime | None:
    """Parse an RFC 3339 time, to the microsecond; ``None`` where it is none."""
    if not _SHORTEST_STAMP <= len(stamp) <= _LONGEST_STAMP or stamp[10:11] != b"T":
        return None
    try:
        time = datetime.fromisoformat(stamp.decode("ascii"))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
