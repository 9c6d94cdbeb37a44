"""What a worker owes its control plane: claims and terminal reports, until delivered.

An entry is *due* until it was written to a connection, *sent* until a pong shows that the
peer has read it, and gone once the peer is known to have it. A connection that ends makes
every entry due again, so each is delivered at least once and, for one execution, in order.

How delivery shows depends on the peer: by an ``ack`` for a terminal report where that was
negotiated; otherwise by a pong to a ping sent after the frame, which shows that the peer's
WebSocket layer had read that far (RFC 6455, section 5.5.3). Where a report was read and no
``ack`` comes, it can be made due once more: a peer that acknowledges knows each execution
by its ID, and a report that it has changes nothing there.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .report import ExecutionKey, TerminalReport

__all__ = ["Claim", "Outbox"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of an execution, on its way to the control plane."""

    key: ExecutionKey


class Outbox:
    """Claims and terminal reports in the order in which they came up.

    What an operation costs does not grow with the number of entries that it leaves as they
    are; ``reset`` touches all. ``clock`` (seconds, monotonic) dates terminal reports for
    ``oldest_unreported_at``.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self._entries: dict[str, Claim | TerminalReport] = {}
        self._claims: dict[ExecutionKey, str] = {}
        self._unreported: dict[str, float | None] = {}  # terminal reports, with the time of their coming up
        # Where an entry stands: in one of these, each in the order in which entries got there.
        self._due: dict[str, None] = {}
        self._sent: dict[str, int] = {}  # with the ping whose pong shows that it was read
        self._read: dict[str, float] = {}  # reports that await their ack, with the time of that pong

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unreported(self) -> int:
        """How many terminal reports are not delivered yet."""
        return len(self._unreported)

    @property
    def oldest_unreported_at(self) -> float | None:
        """When the oldest terminal report that is not delivered came up, by ``clock``.

        None where every report is delivered, and without a clock.
        """
        return next(iter(self._unreported.values()), None)

    @property
    def has_due(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._due)

    @property
    def awaiting_ack_since(self) -> float | None:
        """When the peer read the report for whose ``ack`` it has kept the worker waiting longest."""
        return next(iter(self._read.values()), None)

    def add(self, item: Claim | TerminalReport) -> None:
        """Take an entry; it is due at once."""
        ack_id = f"{item.key}#{next(self._ids)}"
        self._entries[ack_id] = item
        self._due[ack_id] = None
        if isinstance(item, Claim):
            self._claims[item.key] = ack_id
        else:
            self._unreported[ack_id] = self._clock() if self._clock else None

    def reset(self) -> None:
        """A connection ended or began: whatever is not known to be delivered is due."""
        self._due = dict.fromkeys(self._entries)
        self._sent.clear()
        self._read.clear()

    def due(self, barrier: int) -> list[tuple[str, Claim | TerminalReport]]:
        """Give what is due as ``(ack_id, item)``, and count each as sent.

        A pong to ping ``barrier``, which must follow, will show that they were read. The
        pings of a connection are numbered in their order.
        """
        due = [(ack_id, self._entries[ack_id]) for ack_id in self._due]
        self._sent.update(dict.fromkeys(self._due, barrier))
        self._due.clear()
        return due

    def confirm_barrier(self, barrier: int, *, terminal_too: bool, now: float) -> list[TerminalReport]:
        """A pong came: what was sent before its ping has been read.

        That delivers claims and, with ``terminal_too``, reports. Without it the peer
        acknowledges reports itself, and from ``now`` on its ``ack`` is awaited.
        Returns the reports that are delivered by this.
        """
        reached = [ack_id for ack_id, _ in itertools.takewhile(lambda s: s[1] <= barrier, self._sent.items())]
        if terminal_too:
            return self._remove(reached)
        for ack_id in reached:
            if ack_id in self._unreported:
                del self._sent[ack_id]
                self._read[ack_id] = now
        return self._remove([ack_id for ack_id in reached if ack_id not in self._read])

    def confirm(self, ack_id: str) -> list[TerminalReport]:
        """An ``ack`` came; an unknown ID is ignored. Returns the report that it delivers.

        The peer that has a terminal report needs no claim of that execution any more.
        """
        item = self._entries.get(ack_id)
        if item is None:
            return []
        claim = self._claims.get(item.key, ack_id)
        return self._remove({claim: None, ack_id: None})

    def repeat(self, read_before: float) -> None:
        """Make those reports due again that the peer had read by then and has not acknowledged."""
        overdue = itertools.takewhile(lambda r: r[1] <= read_before, self._read.items())
        for ack_id in [ack_id for ack_id, _ in overdue]:
            del self._read[ack_id]
            self._due[ack_id] = None

    def _remove(self, ack_ids: Iterable[str]) -> list[TerminalReport]:
        reports = []
        for ack_id in ack_ids:
            item = self._entries.pop(ack_id)
            for place in (self._due, self._sent, self._read, self._unreported):
                place.pop(ack_id, None)
            if isinstance(item, TerminalReport):
                reports.append(item)
            else:
                self._claims.pop(item.key, None)
        return reports
