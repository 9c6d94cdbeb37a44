"""Wakes the readers of a run's output.

A subscription is one event and no data: the reader reads the store from its own offset. So a slow
reader costs no memory, and however many pieces arrive meanwhile, it wakes once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Subscribers"]


class Subscribers:
    """The events of each run's readers; ``closed``: the readers must end."""

    def __init__(self) -> None:
        self._by_run: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.closed = False

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of a run's output or state, and at the end of all."""
        changed = asyncio.Event()
        self._by_run[run_id].add(changed)
        try:
            yield changed
        finally:
            self._by_run[run_id].discard(changed)
            if not self._by_run[run_id]:
                del self._by_run[run_id]

    def notify(self, run_id: str) -> None:
        """Wake the readers of a run."""
        for changed in self._by_run.get(run_id, ()):
            changed.set()

    def close(self) -> None:
        """End all subscriptions, also those of later requests."""
        self.closed = True
        for run_id in self._by_run:
            self.notify(run_id)
