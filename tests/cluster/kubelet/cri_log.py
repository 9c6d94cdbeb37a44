"""A container's log file as the CRI has it, and what the kubelet's reader makes of it. Pure.

The format is the CRI's (kubernetes design proposals, kubelet-cri-logging): time, stream, tag, text.
The reader is that of k8s.io/cri-client, pkg/logs; tests/integration/cluster/test_cri_log.py compares
this one with it, byte by byte.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Self

__all__ = [
    "LONGEST_TEXT",
    "LogOptions",
    "Reading",
    "Recorder",
    "file_lines",
    "read_log_file",
    "record",
    "tail_start",
]

#: The longest text of a record (containerd, max_container_log_line_size), in bytes.
LONGEST_TEXT: Final = 16 * 1024

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class LogOptions(NamedTuple):
    """What a reader asks for; None means no limit."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit: int | None = None
    since: datetime | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], now: datetime) -> Self:
        """Read the query of a log request."""
        since = None
        if "sinceSeconds" in query:
            since = now - timedelta(seconds=int(query["sinceSeconds"]))
        elif "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"])
        return cls(
            follow=query.get("follow") == "true",
            timestamps=query.get("timestamps") == "true",
            tail=int(query["tailLines"]) if "tailLines" in query else None,
            limit=int(query["limitBytes"]) if "limitBytes" in query else None,
            since=since,
        )


def record(written: datetime, text: bytes, *, tag: str = "F", stream: str = "stdout") -> bytes:
    """Return one record; ``text`` has no line feed. ``tag`` is ``P`` where its line goes on."""
    stamp = written.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"{stamp} {stream} {tag} ".encode() + text + b"\n"


class Recorder:
    """Makes records of a container's output on one stream, as containerd does.

    ``longest`` is the length of the longest text of a record, in bytes.
    """

    def __init__(self, stream: str = "stdout", *, longest: int = LONGEST_TEXT) -> None:
        self._stream = stream
        self._longest = longest
        self.rest = b""
        """What was written of a line that has no record yet."""

    def write(self, data: bytes, now: datetime) -> bytes:
        """Take output in pieces of any size; return the records that it completes."""
        *whole, self.rest = (self.rest + data).split(b"\n")
        records = []
        for line in whole:
            *partial, last = self._texts(line)
            records += [self._record(now, text, "P") for text in partial]
            records.append(self._record(now, last, "F"))
        *partial, self.rest = self._texts(self.rest)
        records += [self._record(now, text, "P") for text in partial]
        return b"".join(records)

    def close(self, now: datetime) -> bytes:
        """The output ends: the rest without a line feed is a partial record."""
        rest, self.rest = self.rest, b""
        return self._record(now, rest, "P") if rest else b""

    def _texts(self, line: bytes) -> list[bytes]:
        return [line[at : at + self._longest] for at in range(0, len(line), self._longest)] or [b""]

    def _record(self, now: datetime, text: bytes, tag: str) -> bytes:
        return record(now, text, tag=tag, stream=self._stream)


class Reading:
    """The kubelet's reader, between the log file and the answer."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit
        self._since = None if options.since is None else (options.since - _EPOCH) // timedelta(microseconds=1)
        self._records = options.tail if options.tail is not None and not options.follow else None
        self._is_new_line = True
        self._knows_format = False
        self.done = False
        """Whether the reader is through, whatever else is in the file."""

    def take(self, lines: list[bytes]) -> bytes:
        """Take lines of the file, with their line feeds; return what is sent for them."""
        output: list[bytes] = []
        for line in lines:
            if self.done or self._records == 0:
                self.done = True
                break
            parsed = _parse(line)
            if parsed is None and not self._knows_format:
                text = line.decode().replace("\n", "\\n")
                output.append(f'failed to get parse function: unsupported log format: "{text}"'.encode())
                self.done = True
            elif parsed is not None:
                output.append(self._write(*parsed))
            self._knows_format = True
        return b"".join(output)

    def _write(self, stamp: str, text: bytes) -> bytes:
        time, shown = _read_stamp(stamp)
        answer = b""
        if self._since is None or time >= self._since * 1000:
            answer = shown + text if self._options.timestamps and self._is_new_line else text
            if self._left is not None:
                answer = answer[: self._left]
                self._left -= len(answer)
                self.done = self._left == 0
        if self._records is not None:
            self._records -= 1
        self._is_new_line = not text or text.endswith(b"\n")
        return answer


def _parse(line: bytes) -> tuple[str, bytes] | None:
    """Return a record's time and its text; ``None`` where the line is no record, and is left out."""
    parts = line.split(b" ", 3)
    if len(parts) < 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    stamp, _, tags, text = parts
    if _STAMP.fullmatch(stamp.decode(errors="replace")) is None:
        return None
    if tags.split(b":")[0] == b"P":
        text = text.removesuffix(b"\n")
    return stamp.decode(), text


@lru_cache(maxsize=4096)
def _read_stamp(stamp: str) -> tuple[int, bytes]:
    """Return a time in nanoseconds, and as the kubelet writes it."""
    found = _STAMP.fullmatch(stamp)
    assert found is not None
    seconds, fraction, zone = found[1], (found[2] or "").ljust(9, "0"), found[3]
    zone = "Z" if zone in ("+00:00", "-00:00") else zone
    moment = datetime.fromisoformat(seconds + zone) - _EPOCH
    return moment // timedelta(seconds=1) * 10**9 + int(fraction), f"{seconds}.{fraction}{zone} ".encode()


def tail_start(file: bytes | bytearray, lines: int | None) -> int:
    """Return where the last ``lines`` records begin; one without a line feed is not counted."""
    if lines is None:
        return 0
    at = len(file)
    for _ in range(lines + 1):
        at = file.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


def read_log_file(file: bytes, options: LogOptions) -> bytes:
    """Return the answer to a request that does not follow."""
    return Reading(options).take(file_lines(file[tail_start(file, options.tail) :]))


def file_lines(data: bytes) -> list[bytes]:
    """Split at line feeds and nowhere else, and keep them."""
    *whole, rest = data.split(b"\n")
    return [*(line + b"\n" for line in whole), *([rest] if rest else [])]
