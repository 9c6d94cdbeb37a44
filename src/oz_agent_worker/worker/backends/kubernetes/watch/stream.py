"""From the bytes of a watch to its events: no I/O, and no state but the unfinished line.

A watch answers with one JSON document a line (Kubernetes API concepts, "Efficient
detection of changes"). A line may arrive in any number of chunks and has no maximum length.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api.errors import Status, status_error
from oz_agent_worker.worker.backends.kubernetes.api.rest import ObjectT, PartialObject, Resource

__all__ = [
    "Bookmark",
    "Deleted",
    "LineSplitter",
    "UndecodableEventError",
    "Upserted",
    "WatchDecoder",
    "WatchEvent",
]


class UndecodableEventError(ValueError):
    """A line of a watch is no event of the expected form. The text quotes nothing of it."""


class Upserted(msgspec.Struct, Generic[ObjectT], frozen=True):
    """ADDED or MODIFIED: the object as it is."""

    object: ObjectT


class _Added(Upserted[ObjectT], Generic[ObjectT], frozen=True, tag="ADDED"):
    """An event's form on the wire, its ``type`` the tag of its class."""


class _Modified(Upserted[ObjectT], Generic[ObjectT], frozen=True, tag="MODIFIED"):
    pass


class Deleted(msgspec.Struct, Generic[ObjectT], frozen=True, tag="DELETED"):
    """DELETED: the object's last state, with the deletion's version."""

    object: ObjectT


@dataclass(frozen=True, slots=True)
class Bookmark:
    """BOOKMARK: the server has sent everything up to this version."""

    resource_version: str


WatchEvent = Upserted[ObjectT] | Deleted[ObjectT] | Bookmark


class LineSplitter:
    """Cuts chunks into lines, at line feeds alone, so that no character is ever split."""

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that ``chunk`` completes, without their line feeds; empty ones are left out.

        The pieces of a long line are joined once, at its end: its cost stays linear.
        """
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            line = b"".join([*self._unfinished, piece]) if self._unfinished else piece
            self._unfinished.clear()
            if line:
                yield line
        if rest:
            self._unfinished.append(rest)


class _Frame(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_FRAME: Final = msgspec.json.Decoder(_Frame)
_BOOKMARK: Final = msgspec.json.Decoder(PartialObject)
_STATUS: Final = msgspec.json.Decoder(Status)


class WatchDecoder(Generic[ObjectT]):
    """Decodes the lines of a watch of one resource."""

    def __init__(self, resource: Resource[ObjectT]) -> None:
        self._path = resource.plural
        view = resource.decoder.type
        changes: Any = _Added[view] | _Modified[view] | Deleted[view]  # type: ignore[valid-type]
        self._changes: msgspec.json.Decoder[Upserted[ObjectT] | Deleted[ObjectT]]
        self._changes = msgspec.json.Decoder(changes)

    def decode(self, line: bytes) -> WatchEvent[ObjectT] | None:
        """Decode a line; return ``None`` for an event type that this program does not know.

        Raises:
            ApiStatusError: the event is ERROR: the server's Status, ``GoneError`` for code 410.
            UndecodableEventError: the line cannot be decoded.
        """
        try:
            # Nearly every line is a change: it is decoded in one pass, its tag choosing the class.
            return self._changes.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._decode_other(line, error)

    def _decode_other(self, line: bytes, unchanged: Exception) -> WatchEvent[ObjectT] | None:
        """Decode a line that is no change; ``unchanged`` says why not."""
        try:
            frame = _FRAME.decode(line)
            match frame.type:
                case "BOOKMARK":
                    return Bookmark(_BOOKMARK.decode(frame.object).metadata.resource_version or "")
                case "ERROR":
                    status = _STATUS.decode(frame.object)
                case "ADDED" | "MODIFIED" | "DELETED":
                    raise unchanged
                case _:
                    return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UndecodableEventError(f"{len(line)} bytes: {error}") from error
        raise status_error(status.code or 500, status, verb="watch", path=self._path)
