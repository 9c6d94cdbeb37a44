"""The check of the Jobs in flight, in virtual time against a scripted API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from oz_agent_worker.worker.backends.kubernetes.api.errors import ForbiddenError
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.watch.job_index import JobIndex
from oz_agent_worker.worker.backends.kubernetes.watch.monitor import JobMonitor
from oz_agent_worker.worker.backends.kubernetes.watch.reflector import WatchSettings
from tests.unit.worker.backends.kubernetes.scripted_api import (
    Answer,
    Part,
    ScriptedApi,
    failure,
    job,
    line,
    listing,
    scripted_client,
    stream,
)
from tests.virtual_time import in_virtual_time

LOST = Answer(refused=aiohttp.ClientConnectionError("connection lost"))


class Handler:
    """An execution in flight."""

    uid = "u"
    created_at = 0.0

    def __init__(self) -> None:
        self.deleted = 0

    def on_update(self) -> None:
        """See ``JobHandler``."""

    def on_delete(self, last: JobView | None) -> None:
        self.deleted += 1


class Bench:
    """A monitor on a scripted API server, with the Job ``a`` of version 3 in flight."""

    def __init__(self, api: ScriptedApi, monitor: JobMonitor, handler: Handler) -> None:
        self.api = api
        self.monitor = monitor
        self.handler = handler

    def checks(self) -> list[float]:
        """When the API server's cache was read, in seconds from the start."""
        start = self.api.asked[0].at
        return [a.at - start for a in self.api.asked if a.query.get("resourceVersion") == "0"]

    def watches(self, plural: str) -> list[str]:
        """From which versions a resource was watched."""
        watches = [asked for asked in self.api.asked if asked.kind == "watch"]
        return [asked.query["resourceVersion"] for asked in watches if asked.path.endswith(plural)]


@asynccontextmanager
async def monitoring(in_flight: bool = True) -> AsyncIterator[Bench]:
    api, index, handler = ScriptedApi(), JobIndex(), Handler()
    if in_flight:
        index.add_handler("a", handler)
    api.answer("list", listing("5", job("a", 3)), listing("6"))
    api.otherwise["list"] = listing("7", job("a", 3))
    async with scripted_client(api) as client:
        monitor = JobMonitor(
            client, index, "ns", "app=x", check_every=30.0, settings=WatchSettings(spread=0.0)
        )
        await monitor.start(10.0)
        try:
            yield Bench(api, monitor, handler)
        finally:
            await monitor.close()


@in_virtual_time
async def test_while_nothing_is_in_flight_nothing_is_checked() -> None:
    async with monitoring(in_flight=False) as bench:
        await asyncio.sleep(200)
        assert bench.checks() == []


@in_virtual_time
async def test_a_watch_that_missed_nothing_is_left_alone() -> None:
    async with monitoring() as bench:
        await asyncio.sleep(100)
        assert bench.checks() == pytest.approx([30, 60, 90])
        assert (bench.watches("jobs"), bench.watches("pods")) == (["5"], ["6"])
        assert all(status.alive for status in bench.monitor.watch_status())


@in_virtual_time
async def test_a_difference_that_stays_means_a_list_of_the_jobs_and_another_connection_for_the_pods(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with monitoring() as bench:
        bench.api.answer("list", listing("9"), listing("9"), listing("9"))
        await asyncio.sleep(40)
        assert bench.checks() == pytest.approx([30, 35])
        assert (bench.watches("jobs"), bench.watches("pods")) == (["5", "9"], ["6", "6"])
        assert bench.handler.deleted == 2, "the list has told both the change and the end"
    assert "missed changes: 1 Jobs differ, such as a" in caplog.text


@in_virtual_time
async def test_a_difference_that_passes_means_nothing() -> None:
    async with monitoring() as bench:
        bench.api.answer("list", listing("9"))
        await asyncio.sleep(70)
        assert bench.checks() == pytest.approx([30, 35, 65])
        assert bench.watches("jobs") == ["5"]


@in_virtual_time
async def test_after_an_outage_a_silent_watch_gets_another_connection() -> None:
    async with monitoring() as bench:
        bench.api.answer("list", *[LOST] * 20)
        await asyncio.sleep(100)
        assert (bench.watches("jobs"), bench.watches("pods")) == (["5", "5"], ["6", "6"])


@in_virtual_time
async def test_a_refused_watch_of_the_pods_fails_the_start() -> None:
    api = ScriptedApi()
    api.answer("list", listing("5"), failure(403, "quota"))
    async with scripted_client(api) as client:
        monitor = JobMonitor(client, JobIndex(), "ns", "app=x", check_every=30.0, settings=WatchSettings())
        with pytest.raises(ForbiddenError):
            await monitor.start(10.0)
        assert monitor.watch_status() == ()
        await monitor.close()


@in_virtual_time
async def test_in_a_busy_cluster_two_checks_in_a_row_are_enough() -> None:
    """The cache is behind each time, and the watch delivers in between."""
    async with monitoring() as bench:
        events: list[Part] = []
        for version in range(10, 100):
            events += [line("MODIFIED", job("a", version)), 2.0]
        bench.api.answer("watch", stream(*events))
        bench.monitor._jobs.reconnect()
        await asyncio.sleep(110)
        assert bench.checks() == pytest.approx([30, 35, 65, 70, 100, 105])
        assert bench.api.kinds().count("list") == 8


@in_virtual_time
async def test_differences_around_a_check_that_failed_are_not_compared() -> None:
    async with monitoring() as bench:
        bench.api.answer("list", listing("9"), failure(403, "no role yet"), listing("9"))
        await asyncio.sleep(70)
        assert bench.checks() == pytest.approx([30, 35, 40])
        assert bench.watches("jobs") == ["5", "5"], "another connection after the outage, and no list"
