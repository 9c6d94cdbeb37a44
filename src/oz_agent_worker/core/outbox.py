"""What a worker owes its control plane: claims and terminal reports, until delivered.

An entry is *due* until it was written to a connection, *sent* until the peer is known
to have it, and gone then. A connection that ends makes every sent entry due again, so
each is delivered at least once and, for one execution, in order.

How delivery shows depends on the peer: an ``ack`` for a terminal report where that was
negotiated; otherwise a pong to a ping sent after the frame, which shows that the peer's
WebSocket layer had read that far (RFC 6455, section 5.5.3).
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .report import ExecutionKey, TerminalReport

__all__ = ["Claim", "Outbox"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of an execution, on its way to the control plane."""

    key: ExecutionKey


@dataclass(slots=True)
class _Entry:
    item: Claim | TerminalReport
    ack_id: str
    barrier: int | None = None  # None while due, else the ping that shows its delivery


class Outbox:
    """Claims and terminal reports in the order in which they came up."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._due: dict[str, None] = {}
        self._claims: dict[ExecutionKey, str] = {}
        self._ids = itertools.count(1)
        self._barrier = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unreported(self) -> int:
        """How many terminal reports are not delivered yet."""
        return sum(isinstance(e.item, TerminalReport) for e in self._entries.values())

    @property
    def has_due(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._due)

    def add(self, item: Claim | TerminalReport) -> None:
        """Take an entry; it is due at once."""
        number = next(self._ids)
        ack_id = f"{item.key}#{number}"
        self._entries[ack_id] = _Entry(item, ack_id)
        self._due[ack_id] = None
        if isinstance(item, Claim):
            self._claims[item.key] = ack_id

    def reset(self) -> None:
        """A connection ended or began: whatever is not known to be delivered is due."""
        for entry in self._entries.values():
            entry.barrier = None
        self._due = dict.fromkeys(self._entries)

    def due(self, barrier: int) -> Iterator[tuple[str, Claim | TerminalReport]]:
        """Yield what is due as ``(ack_id, item)``, and count each as sent.

        A pong to ping ``barrier``, which must follow, will show their delivery.
        """
        for ack_id in list(self._due):
            if ack_id not in self._due:
                continue  # delivered while the caller wrote an earlier one
            del self._due[ack_id]
            entry = self._entries[ack_id]
            entry.barrier = barrier
            yield ack_id, entry.item

    def next_barrier(self) -> int:
        """Number the ping that follows all that was sent so far."""
        self._barrier += 1
        return self._barrier

    def confirm_barrier(self, barrier: int, *, terminal_too: bool) -> list[TerminalReport]:
        """A pong came: what was sent before its ping is delivered.

        With ``terminal_too`` false only claims are: the peer acknowledges terminal
        reports itself. Returns the reports that are delivered by this.
        """
        reached = (e for e in self._entries.values() if e.barrier is not None and e.barrier <= barrier)
        if not terminal_too:
            reached = (e for e in reached if isinstance(e.item, Claim))
        return self._remove(list(reached))

    def confirm(self, ack_id: str) -> list[TerminalReport]:
        """An ``ack`` came; an unknown ID is ignored. Returns the report that it delivers.

        The peer that has a terminal report needs no claim of that execution any more.
        """
        entry = self._entries.get(ack_id)
        if entry is None:
            return []
        claim = self._entries.get(self._claims.get(entry.item.key, ""))
        return self._remove([entry] if claim is None or claim is entry else [claim, entry])

    def _remove(self, entries: Iterable[_Entry]) -> list[TerminalReport]:
        reports = []
        for entry in entries:
            self._entries.pop(entry.ack_id, None)
            self._due.pop(entry.ack_id, None)
            if isinstance(entry.item, TerminalReport):
                reports.append(entry.item)
            else:
                self._claims.pop(entry.item.key, None)
        return reports
