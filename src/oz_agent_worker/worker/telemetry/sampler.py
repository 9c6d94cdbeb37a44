"""Samples once a second what no event reports: the outbox, the watches, and the event loop's lag.

It runs on the event loop, so that nothing is read while it changes. Exporters that run in
threads of their own export the last sample.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.worker.events import WatchStatus

from .instruments import Instruments

__all__ = ["Sampler"]


class Sampler:
    """Samples every ``interval`` seconds until its task is cancelled."""

    def __init__(
        self,
        instruments: Instruments,
        outbox: Outbox,
        watches: Callable[[], Sequence[WatchStatus]],
        *,
        interval: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instruments = instruments
        self._outbox = outbox
        self._watches = watches
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
        """Read everything but the lag at once."""
        oldest = self._outbox.oldest_unreported_at
        age = 0.0 if oldest is None else max(0.0, self._monotonic() - oldest)
        self._instruments.set("oz_worker_outbox_reports", self._outbox.unreported)
        self._instruments.set("oz_worker_outbox_oldest_seconds", age)
        for watch in self._watches():
            self._instruments.set(
                "oz_worker_kubernetes_watch_lag_seconds", watch.silent_for, resource=watch.resource
            )
