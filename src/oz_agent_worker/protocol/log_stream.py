"""Buffers of task output for a control plane that asked for it.

Output is text on the wire: bytes are decoded as UTF-8 (invalid ones become U+FFFD), and offsets
count the UTF-8 bytes of that text. A chunk is kept until a pong shows that the peer has read it.
After a broken connection it is sent again, and by its offset the peer drops what it already has.
Memory is bounded for each task and in total: where tasks write faster than the peer reads, the
oldest output of the task that holds most is dropped, and its offset jumps.
"""

import codecs
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from .report import ExecutionKey

__all__ = ["MAX_CHUNK", "MAX_HELD", "MAX_TOTAL", "LogBuffers", "LogChunk", "LogStream"]

#: The most output that is kept of one task, in bytes.
MAX_HELD: Final = 1024 * 1024
#: The most output that is kept of all tasks, in bytes.
MAX_TOTAL: Final = 32 * 1024 * 1024
#: The longest text of one frame, in bytes.
MAX_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A part of an execution's output; ``offset`` is its position in UTF-8 bytes."""

    key: ExecutionKey
    offset: int
    text: str


@dataclass(slots=True)
class LogStream:
    """The undelivered output of one execution."""

    key: ExecutionKey
    max_held: int = MAX_HELD
    held_back: bool = False  # nothing may be sent yet
    _held: bytearray = field(default_factory=bytearray)
    _start: int = 0  # offset of the first held byte
    _sent: int = 0  # offset up to which it was sent on this connection
    _marks: list[tuple[int, int]] = field(default_factory=list)  # (barrier, offset)
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    def write(self, chunk: bytes, *, final: bool = False) -> None:
        """Append output; ``final`` says that none follows."""
        self._held += self._decoder.decode(chunk, final).encode()
        surplus = len(self._held) - self.max_held
        if surplus > 0:
            self.drop(surplus)

    @property
    def held(self) -> int:
        """How many bytes are kept."""
        return len(self._held)

    @property
    def has_due(self) -> bool:
        """Whether there is output that was not sent on this connection."""
        return not self.held_back and self._sent < self._start + len(self._held)

    @property
    def confirmed(self) -> bool:
        """Whether all that was sent is known to be delivered."""
        return not self._marks

    def reset(self) -> None:
        """Make everything due, because a connection began."""
        self._sent = self._start
        self._marks.clear()

    def take(self, barrier: int) -> LogChunk | None:
        """Return the next chunk, if any; a pong to ping ``barrier`` will show its delivery."""
        if not self.has_due:
            return None
        begin = self._sent - self._start
        end = min(len(self._held), begin + MAX_CHUNK)
        if end < len(self._held):
            end = _boundary_before(self._held, end)
        chunk = LogChunk(self.key, self._sent, self._held[begin:end].decode())
        self._sent = self._start + end
        if self._marks and self._marks[-1][0] == barrier:
            self._marks.pop()
        self._marks.append((barrier, self._sent))
        return chunk

    def confirm_barrier(self, barrier: int) -> None:
        """Drop what was sent before ping ``barrier``: it is delivered."""
        reached = [offset for mark, offset in self._marks if mark <= barrier]
        if reached:
            self._marks = [m for m in self._marks if m[0] > barrier]
            self.drop(max(0, max(reached) - self._start))

    def drop(self, count: int) -> None:
        """Drop the oldest ``count`` bytes, and the rest of a character that this cuts."""
        count = _boundary_after(self._held, count)
        del self._held[:count]
        self._start += count
        self._sent = max(self._sent, self._start)


class _Sizes:
    """How many bytes each execution holds, in size classes of a factor of two: each change is O(1)."""

    def __init__(self) -> None:
        self.total = 0
        self._sizes: dict[ExecutionKey, int] = {}
        self._classes: defaultdict[int, dict[ExecutionKey, None]] = defaultdict(dict)

    def __setitem__(self, key: ExecutionKey, size: int) -> None:
        before = self._sizes.pop(key, 0)
        self.total += size - before
        if size:
            self._sizes[key] = size
        if before.bit_length() != size.bit_length():
            self._classes[before.bit_length()].pop(key, None)
            if size:
                self._classes[size.bit_length()][key] = None

    def largest(self) -> ExecutionKey:
        """Return the execution that entered the largest class first."""
        return next(iter(self._classes[max(c for c, keys in self._classes.items() if keys)]))


class LogBuffers:
    """The output buffers of all active executions, ``max_total`` bytes at most.

    Only streams with something to write or to confirm are visited, so the cost of a wake-up
    does not grow with the number of quiet tasks.
    """

    def __init__(self, max_total: int = MAX_TOTAL) -> None:
        #: ``None`` before the first connection: output of an adopted execution may come earlier.
        self.wanted: bool | None = None
        self._max_total = max_total
        self._sizes = _Sizes()
        self._streams: dict[ExecutionKey, LogStream] = {}
        self._due: dict[ExecutionKey, None] = {}
        self._unconfirmed: dict[ExecutionKey, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def has_due(self) -> bool:
        """Whether there is output to write."""
        return bool(self.wanted and self._due)

    def write(self, key: ExecutionKey, chunk: bytes, *, final: bool = False, held_back: bool = False) -> None:
        """Append output of an execution; it is dropped where the peer does not want any.

        With ``held_back`` it is kept until a later write without it: output follows the claim.
        """
        if self.wanted is False:
            return
        stream = self._streams.get(key)
        if stream is None:
            if not chunk:
                return
            stream = self._streams[key] = LogStream(key)
        stream.write(chunk, final=final)
        stream.held_back = held_back
        if stream.has_due:
            self._due[key] = None
        self._sizes[key] = stream.held
        self._make_room()

    def _make_room(self) -> None:
        """Drop output of the execution that holds most, at most half of it at a time."""
        while (surplus := self._sizes.total - self._max_total) > 0:
            key = self._sizes.largest()
            stream = self._streams[key]
            stream.drop(min(surplus, (stream.held + 1) // 2))
            self._sizes[key] = stream.held

    @property
    def held(self) -> int:
        """How many bytes of output are kept."""
        return self._sizes.total

    def forget(self, key: ExecutionKey) -> None:
        """Drop the output of an execution that is over and reported."""
        for table in (self._streams, self._due, self._unconfirmed):
            table.pop(key, None)
        self._sizes[key] = 0

    def reset(self, *, wanted: bool) -> None:
        """Make everything due, because a connection began; ``wanted``: its peer takes output."""
        self.wanted = wanted
        for stream in self._streams.values():
            stream.reset()
        self._due = {key: None for key, stream in self._streams.items() if stream.has_due}
        self._unconfirmed.clear()

    def due(self) -> list[ExecutionKey]:
        """Return the executions with output to write, the longest waiting first."""
        return list(self._due) if self.wanted else []

    def take(self, key: ExecutionKey, barrier: int) -> LogChunk | None:
        """Return an execution's next chunk, if any; a pong to ping ``barrier`` will show its delivery."""
        stream = self._streams.get(key)
        chunk = stream.take(barrier) if stream else None
        self._due.pop(key, None)
        if stream is None or chunk is None:
            return None
        if stream.has_due:
            self._due[key] = None
        self._unconfirmed[key] = None
        return chunk

    def confirm_barrier(self, barrier: int) -> None:
        """Drop what was written before ping ``barrier``: it is delivered."""
        for key in list(self._unconfirmed):
            stream = self._streams[key]
            stream.confirm_barrier(barrier)
            self._sizes[key] = stream.held
            if stream.confirmed:
                del self._unconfirmed[key]


def _is_continuation(byte: int) -> bool:
    return byte & 0xC0 == 0x80


def _boundary_after(text: bytearray, index: int) -> int:
    while index < len(text) and _is_continuation(text[index]):
        index += 1
    return index


def _boundary_before(text: bytearray, index: int) -> int:
    while _is_continuation(text[index]):  # a stream never begins inside a character
        index -= 1
    return index
