"""Joins the parts of a container's log that is read in several requests: no gap, no repetition. Pure.

A container runtime writes records (CRI log format): time, stream, ``P`` (partial) or ``F`` (full), text.
A long line is several partial records and a full one. The kubelet joins their texts, and writes a
timestamp (core/v1, PodLogOptions.timestamps) before the first of a line only.

After an interruption a log is requested from the second of its last line on (``sinceTime`` has no
fractions of a second), and the lines that were read before are counted and left out. The kubelet
leaves out each *record* that is older, so such an answer may begin in the middle of a line, without a
timestamp: that line came before the last one, and was read. Byte counts alone cannot join parts: the
kubelet rotates logs, and then serves another beginning.

The kubelet's own errors are in the body too, at its end, without a timestamp and a line feed
(k8s.io/cri-client, pkg/logs; k8s.io/kubernetes, pkg/kubelet/server).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["BEGINNING", "LogPosition", "LogReader"]

#: The longest and the shortest timestamp, in bytes; RFC 3339 with nanoseconds and an offset has 35.
_LONGEST_STAMP: Final = 40
_SHORTEST_STAMP: Final = len("2026-01-01T00:00:00Z")
_PART_OF_A_STAMP: Final = re.compile(rb"\d{1,4}(?:-[\d:.TZ+-]*)? ?")
#: The longest error of the kubelet that is told from output, in bytes.
_LONGEST_ERROR: Final = 2048
#: How errors of the kubelet begin: those of ReadLogs and waitLogs (cri-client), of GetContainerLogs
#: (kubelet), and of the runtime.
_ERROR: Final = re.compile(
    rb"failed to (?:create fsnotify watcher|watch (?:directory|file)|(?:open|read) log file|reset seek in"
    rb"|try resolving symlinks|tail \d+ lines|seek \d+ in|get parse function)|unable to retrieve container"
    rb" logs for |rpc error: code = |context cancell?ed|container status is nil|fsnotify: "
)


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a log was read.

    ``time`` is the latest of its lines' times. ``lines`` is the number of whole lines of that second
    that were read, and ``length`` the number of bytes of one more line that is not complete.
    """

    time: datetime | None = None
    lines: int = 0
    length: int = 0

    @property
    def second(self) -> datetime | None:
        """The second of ``time``; ``None`` at the beginning."""
        return None if self.time is None else self.time.replace(microsecond=0)

    @property
    def since(self) -> str | None:
        """The ``sinceTime`` to continue from (RFC 3339); ``None`` at the beginning."""
        if self.time is None:
            return None
        return self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


BEGINNING: Final = LogPosition()


class LogReader:
    """Removes the timestamps of a log, the lines up to a position, and the kubelet's own errors.

    ``followed``: the log is that of a running container. Only there an error may follow a line that
    is not complete; what looks like one is held back until the line goes on.

    Whole lines without a timestamp are kept where no line has one: not every server writes them.
    """

    def __init__(self, after: LogPosition = BEGINNING, *, followed: bool = False) -> None:
        self._resume: LogPosition | None = after if after.time is not None else None
        self._followed = followed
        self._met = 0  # known lines that were found
        self._position = after
        self._stamped = False  # whether a line of this answer had a timestamp
        self._head = b""  # the beginning of a line while it is not known what it is
        self._held = b""  # the end of a line while it may be an error
        self._in_line = False
        self._counted = False  # whether the current line is of the position's second
        self._skip: int | None = 0  # bytes of the current line to leave out; None is all of it
        self.rotated = False
        """Whether another log file was served than before: lines may be missing at the beginning."""

    @property
    def position(self) -> LogPosition:
        """How far the log was read."""
        return self._position

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the log; return the output that they contain."""
        *lines, rest = chunk.split(b"\n")
        output = [self._take(line, ended=True) for line in lines]
        if rest:
            output.append(self._take(rest, ended=False))
        return b"".join(output)

    def end(self) -> str:
        """Take the answer's regular end; return the kubelet's error with which it ends, or nothing."""
        text, self._head, self._held = self._head + self._held, b"", b""
        is_resuming = self._resume is not None and not self._stamped
        if _PART_OF_A_STAMP.fullmatch(text) or (is_resuming and not _ERROR.match(text)):
            return ""
        return " ".join(text.decode(errors="replace").split())

    def _take(self, piece: bytes, *, ended: bool) -> bytes:
        if self._in_line:
            return self._content(piece, ended=ended)
        piece, self._head = self._head + piece, b""
        stamp, space, text = piece.partition(b" ")
        time = _time(stamp) if space or ended else None
        if time is not None:
            self._begin(time)
            return self._content(text, ended=ended)
        if not ended and len(piece) <= _LONGEST_ERROR:
            self._head = piece
            return b""
        self._counted = False
        # The rest of a line whose beginning is older than the position's second.
        self._skip = None if self._resume is not None and not self._stamped else 0
        return self._content(piece, ended=ended)

    def _begin(self, time: datetime) -> None:
        """Decide which part of the line that begins was read before."""
        self._stamped = True
        self._skip = 0 if self._resume is None else self._known(time, self._resume)
        last, second = self._position.time, self._position.second
        if last is None or second is None or time.replace(microsecond=0) > second:
            self._position = LogPosition(time)
        elif time > last:
            self._position = LogPosition(time, self._position.lines)
        second = self._position.second
        self._counted = self._skip is not None and second is not None and time >= second

    def _known(self, time: datetime, resume: LogPosition) -> int | None:
        """Return how many bytes of a line were read before; ``None`` for all of it."""
        assert resume.time is not None
        assert resume.second is not None
        if time < resume.second:
            return None
        if time > resume.time:
            self.rotated = self._met < resume.lines or resume.length > 0
            self._resume = None
            return 0
        if self._met < resume.lines:
            self._met += 1
            return None
        self._resume = None
        return resume.length

    def _content(self, piece: bytes, *, ended: bool) -> bytes:
        piece, self._held = self._held + piece, b""
        if self._followed and not ended:
            error = _ERROR.search(piece, max(0, len(piece) - _LONGEST_ERROR))
            if error is not None:
                piece, self._held = piece[: error.start()], piece[error.start() :]
        piece = piece + b"\n" if ended else piece
        output, position = b"", self._position
        if self._skip is not None:
            output = piece[self._skip :]
            self._skip = max(0, self._skip - len(piece))
            if self._counted and ended:
                self._position = LogPosition(position.time, position.lines + 1)
            elif self._counted:
                self._position = LogPosition(position.time, position.lines, position.length + len(output))
        self._in_line = not ended
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
