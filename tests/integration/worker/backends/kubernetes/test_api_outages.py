"""API server outages between a task's start and its end: they fail no healthy task.

The API server is real, and so are its Job controller and its watches; a proxy makes the faults.
Times that matter for catching up are those of production.
"""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.api.retry import ONCE
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.watch.reflector import WatchSettings
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours
from tests.integration.worker.backends.harness import eventually

from .fault_proxy import FaultProxy
from .worker import QUICK, running_backend, task

pytestmark = pytest.mark.cluster

TASKS = 5
#: How long the worker may take to notice the end of a fault, in seconds.

PATIENT = dataclasses.replace(QUICK, check_every=30.0, watch=WatchSettings())

Start = Callable[..., AbstractAsyncContextManager[KubernetesBackend]]
KubeletFactory = Callable[..., Kubelet]


@pytest.fixture
async def proxy(api_tier: ApiTier) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(api_tier.connection("worker")) as running:
        yield running


@pytest.fixture
def start(proxy: FaultProxy, api_tier: ApiTier, namespace: str, tmp_path: Path) -> Start:
    """Start a backend behind the proxy."""

    def begin(settings: Any = PATIENT) -> AbstractAsyncContextManager[KubernetesBackend]:
        kubeconfig = proxy.kubeconfig(tmp_path, api_tier.token("worker"))
        return running_backend(kubeconfig, namespace, settings=settings)

    return begin


class Lives:
    """Tasks that each live from their launch to their outcome."""

    def __init__(self, backend: KubernetesBackend, count: int = TASKS) -> None:
        self._backend = backend
        self.launched = 0
        self.count = count
        self.tasks = [asyncio.create_task(self._live(f"task-{n}")) for n in range(count)]

    async def _live(self, name: str) -> Outcome:
        execution = await self._backend.launch(task(name), NoOutput())
        self.launched += 1
        return await execution.wait()

    async def all_launched(self) -> None:
        await eventually(lambda: self.launched == self.count)

    async def succeed(self) -> None:
        """All end well; those that do not are in the message."""
        outcomes = await asyncio.gather(*self.tasks)
        assert [outcome for outcome in outcomes if outcome.result is not TaskResult.SUCCEEDED] == []


def jobs_ended(api_tier: ApiTier, namespace: str) -> int:
    listed: Any = api_tier.client().get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return sum("completionTime" in job["status"] for job in listed["items"])


def _away(proxy: FaultProxy) -> None:
    proxy.away = True
    proxy.cut()


def _says(code: int, **headers: str) -> Callable[[FaultProxy], None]:
    def begin(proxy: FaultProxy) -> None:
        proxy.says = (code, {name.replace("_", "-"): value for name, value in headers.items()})
        proxy.cut()

    return begin


def _slow(proxy: FaultProxy) -> None:
    proxy.slow = 3.0
    proxy.cut()


def _silent(proxy: FaultProxy) -> None:
    """A load balancer that loses the server: its own connections to clients stay open."""
    proxy.silent = True
    proxy.says = (503, {})


def _heal(proxy: FaultProxy) -> None:
    proxy.away, proxy.says, proxy.slow = False, None, 0.0


@pytest.mark.parametrize(
    "fault",
    [
        _away,
        _says(429, Retry_After="1"),
        _says(500),
        _says(503, Retry_After="600"),
        _says(403),
        _says(401),
        _slow,
    ],
    ids=["away", "429", "500", "503 for long", "403", "401", "slow"],
)
async def test_what_ended_meanwhile_is_known_soon_after(
    proxy: FaultProxy,
    start: Start,
    api_tier: ApiTier,
    namespace: str,
    kubelet: KubeletFactory,
    fault: Callable[[FaultProxy], None],
) -> None:
    async with kubelet(behaviours.always(behaviours.succeed(after=0.5))), start() as backend:
        lives = Lives(backend)
        await lives.all_launched()
        fault(proxy)
        await eventually(lambda: jobs_ended(api_tier, namespace) == TASKS)
        await asyncio.sleep(3.0)  # the pauses have grown
        _heal(proxy)
        await lives.succeed()


async def test_a_temporary_refusal_is_logged_once(
    proxy: FaultProxy, start: Start, kubelet: KubeletFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async with kubelet(behaviours.always(behaviours.succeed(after=0.5))), start() as backend:
        lives = Lives(backend)
        await lives.all_launched()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            _says(403)(proxy)
            before = proxy.asked["watch"]
            await eventually(lambda: proxy.asked["watch"] >= before + 6)
            _heal(proxy)
            await lives.succeed()
    logged = [record.message for record in caplog.records if "is refused and tried again" in record.message]
    assert sorted(cluster_message.split(" is ")[0] for cluster_message in logged) == [
        "the watch of jobs",
        "the watch of pods",
    ]


@pytest.mark.parametrize("ending", ["ended", "cut"])
async def test_a_watch_that_lasts_a_second_is_no_list_a_second(
    proxy: FaultProxy, start: Start, kubelet: KubeletFactory, ending: str
) -> None:
    async def cut_every_second() -> None:
        while True:
            await asyncio.sleep(1.0)
            proxy.cut()

    if ending == "ended":
        proxy.watch_ends_after = 1.0
    async with kubelet(behaviours.always(behaviours.succeed(after=3.0))), start() as backend:
        cutter = asyncio.create_task(cut_every_second()) if ending == "cut" else None
        lives = Lives(backend)
        await lives.succeed()
        if cutter is not None:
            cutter.cancel()
        assert backend.stats.lists == {"jobs": 1, "pods": 1}
        assert backend.stats.watches["jobs"] >= 3


async def test_events_that_come_twice_and_out_of_order(
    proxy: FaultProxy, start: Start, kubelet: KubeletFactory
) -> None:
    delivered: list[bytes] = []

    def shuffled(lines: list[bytes]) -> list[bytes]:
        delivered.extend(lines)
        return [*reversed(lines), *delivered[-20:]]

    proxy.mangle = shuffled
    async with kubelet(behaviours.always(behaviours.succeed(after=0.5))), start(QUICK) as backend:
        await Lives(backend, 20).succeed()


async def test_a_watch_whose_other_end_is_gone_is_found_by_the_check(
    proxy: FaultProxy, start: Start, api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    # A check that is refused fails at once: that is how the outage is noticed.
    client = dataclasses.replace(PATIENT.client, read=ONCE)
    looks_often = dataclasses.replace(PATIENT, check_every=0.5, client=client)
    async with kubelet(behaviours.always(behaviours.succeed(after=1.0))), start(looks_often) as backend:
        lives = Lives(backend)
        await lives.all_launched()
        _silent(proxy)
        await eventually(lambda: jobs_ended(api_tier, namespace) == TASKS)
        await asyncio.sleep(1.0)
        watches = backend.stats.watches.copy()
        proxy.says, proxy.silent = None, False
        await lives.succeed()
        assert backend.stats.watches["jobs"] > watches["jobs"]
        assert backend.stats.lists == {"jobs": 1, "pods": 1}, "it goes on from where it was"
