"""What is read once a second."""

import asyncio

import pytest

from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.protocol.outcome import succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.worker.events import WatchStatus
from oz_agent_worker.worker.telemetry.catalogue import METRICS
from oz_agent_worker.worker.telemetry.sampler import Sampler

from .exposition import instruments_for, scraped

JOBS = WatchStatus("jobs", running=True, silent_for=31.5, idle_for=1.0, idle_limit=400.0)


def test_outbox_and_watches() -> None:
    now = [100.0]
    outbox = Outbox(clock=lambda: now[0])
    instruments, registry = instruments_for(METRICS)
    sampler = Sampler(instruments, outbox, lambda: (JOBS,), monotonic=lambda: now[0])
    sampler.sample()
    seen = scraped(registry)
    assert seen.value("oz_worker_outbox_reports") == 0
    assert seen.value("oz_worker_outbox_oldest_seconds") == 0
    assert seen.value("oz_worker_kubernetes_watch_lag_seconds", resource="jobs") == 31.5
    assert seen.value("oz_worker_kubernetes_watch_lag_seconds", resource="pods") == 0
    outbox.add(TerminalReport(ExecutionKey("t", "t"), succeeded()))
    now[0] = 107.0
    sampler.sample()
    seen = scraped(registry)
    assert seen.value("oz_worker_outbox_reports") == 1
    assert seen.value("oz_worker_outbox_oldest_seconds") == 7


async def test_a_late_timer_is_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    instruments, registry = instruments_for(METRICS)
    sampler = Sampler(instruments, Outbox(), tuple, monotonic=lambda: now[0])
    delays = iter([1.0, 1.3, 0.999])
    enough = asyncio.Event()
    go_on = asyncio.sleep

    async def sleep(seconds: float) -> None:
        assert seconds == 1.0
        if (delay := next(delays, None)) is None:
            enough.set()
            await go_on(3600)
        else:
            now[0] += delay

    monkeypatch.setattr(asyncio, "sleep", sleep)
    running = asyncio.create_task(sampler.run())
    await enough.wait()
    running.cancel()
    seen = scraped(registry)
    assert seen.value("oz_worker_event_loop_lag_seconds_count") == 3
    assert seen.value("oz_worker_event_loop_lag_seconds_sum") == pytest.approx(0.3)
    assert seen.value("oz_worker_event_loop_lag_seconds_bucket", le="0.25") == 2
