"""Claims and terminal reports that the control plane has not received yet.

An entry is *due* until it is written to a connection, *sent* until a pong shows that the peer
has read it, and removed when it is delivered. When a connection ends, every entry is due again:
each is delivered at least once and, for one execution, in order.

What shows the delivery depends on the peer. A terminal report is delivered by its ``ack`` where
that was negotiated. Otherwise a pong to a ping sent after the frame shows that the peer's
WebSocket layer has read the frame (RFC 6455, section 5.5.3). A report that was read but not
acknowledged can be sent again: the peer ignores a report that it already has.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .report import ExecutionKey, TerminalReport

__all__ = ["Claim", "Outbox"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of an execution, to be delivered to the control plane."""

    key: ExecutionKey


class Outbox:
    """Claims and terminal reports in the order in which they were added.

    The cost of an operation does not depend on the entries that it does not change; ``reset``
    changes all. ``clock`` (monotonic seconds) dates terminal reports for ``oldest_unreported_at``.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self._entries: dict[str, Claim | TerminalReport] = {}
        self._claims: dict[ExecutionKey, str] = {}
        self._unreported: dict[str, float | None] = {}  # terminal reports, with the time of `add`
        # Each entry is in one of these, in the order in which it got there.
        self._due: dict[str, None] = {}
        self._sent: dict[str, int] = {}  # with the number of the ping whose pong shows that it was read
        self._read: dict[str, float] = {}  # reports that wait for their ack, with the time of that pong

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unreported(self) -> int:
        """How many terminal reports are not delivered."""
        return len(self._unreported)

    @property
    def oldest_unreported_at(self) -> float | None:
        """When the oldest undelivered terminal report was added, by ``clock``.

        ``None`` where all are delivered, or without a clock.
        """
        return next(iter(self._unreported.values()), None)

    @property
    def has_due(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._due)

    @property
    def awaiting_ack_since(self) -> float | None:
        """When the peer read the report that has waited longest for its ``ack``."""
        return next(iter(self._read.values()), None)

    def add(self, item: Claim | TerminalReport) -> None:
        """Add an entry; it is due at once."""
        ack_id = f"{item.key}#{next(self._ids)}"
        self._entries[ack_id] = item
        self._due[ack_id] = None
        if isinstance(item, Claim):
            self._claims[item.key] = ack_id
        else:
            self._unreported[ack_id] = self._clock() if self._clock else None

    def reset(self) -> None:
        """Make every entry due, because a connection ended or began."""
        self._due = dict.fromkeys(self._entries)
        self._sent.clear()
        self._read.clear()

    def due(self, barrier: int) -> list[tuple[str, Claim | TerminalReport]]:
        """Return what is due as ``(ack_id, item)``, and mark it as sent.

        Ping number ``barrier`` must follow; its pong will show that the entries were read. The
        pings of a connection are numbered in order.
        """
        due = [(ack_id, self._entries[ack_id]) for ack_id in self._due]
        self._sent.update(dict.fromkeys(self._due, barrier))
        self._due.clear()
        return due

    def confirm_barrier(self, barrier: int, *, terminal_too: bool, now: float) -> list[TerminalReport]:
        """Note that the peer has read what was sent before ping ``barrier``; return delivered reports.

        This delivers claims and, with ``terminal_too``, reports. Without ``terminal_too`` the peer
        acknowledges each report, and its ``ack`` is awaited from ``now`` on.
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
        """Note an ``ack``, and return the report that it delivers; an unknown ID is ignored.

        The claim of the same execution is dropped: a peer that has the report does not need it.
        """
        item = self._entries.get(ack_id)
        if item is None:
            return []
        claim = self._claims.get(item.key, ack_id)
        return self._remove({claim: None, ack_id: None})

    def repeat(self, read_before: float) -> None:
        """Make reports due again that the peer read by then and has not acknowledged."""
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
