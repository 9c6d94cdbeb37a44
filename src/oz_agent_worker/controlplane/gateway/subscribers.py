"""Wakes those who follow a run's output.

A subscriber holds one flag and no data: it reads the store from where it stands, so a slow
one costs no memory, and however many pieces arrive meanwhile, it wakes once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from oz_agent_worker.common.aio import wait_for_event

__all__ = ["Subscriber", "Subscribers"]


class Subscriber:
    """One reader's place in line."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        """Say that there may be something to read."""
        self._changed.set()

    async def changed(self, timeout: float) -> bool:
        """Wait until something may be there to read; False when ``timeout`` seconds passed."""
        seen = await wait_for_event(self._changed, timeout)
        self._changed.clear()
        return seen


class Subscribers:
    """All subscribers, by run."""

    def __init__(self) -> None:
        self._by_run: defaultdict[str, set[Subscriber]] = defaultdict(set)
        self._closed = False

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator[Subscriber]:
        """Be woken at each change of a run's output or state, from here on."""
        subscriber = Subscriber()
        subscriber.closed = self._closed
        self._by_run[run_id].add(subscriber)
        try:
            yield subscriber
        finally:
            self._by_run[run_id].discard(subscriber)
            if not self._by_run[run_id]:
                del self._by_run[run_id]

    def notify(self, run_id: str) -> None:
        """Say that there is something to read."""
        for subscriber in self._by_run.get(run_id, ()):
            subscriber.wake()

    def close(self) -> None:
        """Send every subscriber away, those of later requests too."""
        self._closed = True
        for subscribers in self._by_run.values():
            for subscriber in subscribers:
                subscriber.closed = True
                subscriber.wake()
