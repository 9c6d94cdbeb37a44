"""Reads, once a second, what nobody tells: the outbox, the watches, and how the event loop keeps time.

It runs on the event loop, so that nothing is read while it changes; exporters that run in
threads of their own export what was read last.
"""

import asyncio
import time
from collections.abc import Callable

from .instruments import Instruments
from .sources import Subjects

__all__ = ["Sampler"]


class Sampler:
    """Samples until its task is cancelled."""

    def __init__(
        self,
        instruments: Instruments,
        subjects: Subjects,
        *,
        interval: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instruments = instruments
        self._subjects = subjects
        self._interval = interval
        self._monotonic = monotonic

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            due = self._monotonic() + self._interval
            await asyncio.sleep(self._interval)
            lag = max(0.0, self._monotonic() - due)
            self._instruments.record("oz_worker_event_loop_lag_seconds", lag)
            self.sample()

    def sample(self) -> None:
        """Read everything that can be read at once."""
        outbox = self._subjects.outbox
        oldest = outbox.oldest_unreported_at
        waits = 0.0 if oldest is None else max(0.0, self._monotonic() - oldest)
        self._instruments.set("oz_worker_outbox_reports", outbox.unreported)
        self._instruments.set("oz_worker_outbox_oldest_seconds", waits)
        for watch in self._subjects.watches():
            self._instruments.set(
                "oz_worker_kubernetes_watch_lag_seconds", watch.unheard_for, resource=watch.resource
            )
