"""Wakes the readers of a run's output.

A subscriber has one flag and no data: it reads the store from its own offset. So a slow one
costs no memory, and however many pieces arrive meanwhile, it wakes once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from oz_agent_worker.common.aio import wait_for_event

__all__ = ["Subscriber", "Subscribers"]


class Subscriber:
    """One reader of a run's output; ``closed``: it must end."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        """Tell it that there may be something to read."""
        self._changed.set()

    async def changed(self, timeout: float) -> bool:
        """Wait until there may be something to read; False after ``timeout`` seconds without."""
        seen = await wait_for_event(self._changed, timeout)
        self._changed.clear()
        return seen


class Subscribers:
    """The subscribers of each run."""

    def __init__(self) -> None:
        self._by_run: defaultdict[str, set[Subscriber]] = defaultdict(set)
        self._closed = False

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator[Subscriber]:
        """Subscribe to the changes of a run's output and state."""
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
        """Wake the subscribers of a run."""
        for subscriber in self._by_run.get(run_id, ()):
            subscriber.wake()

    def close(self) -> None:
        """Close all subscribers, also those of later requests."""
        self._closed = True
        for subscribers in self._by_run.values():
            for subscriber in subscribers:
                subscriber.closed = True
                subscriber.wake()
