"""Executions that earlier workers left, on a real API server with the kubelet played."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours, execute
from tests.cluster.rest import RestClient
from tests.integration.worker.backends.harness import Scratch, eventually

from .driven_worker import DrivenWorker, driven_worker, key, spec
from .fault_proxy import FaultProxy
from .test_env_secret import allow_secrets, listed
from .worker import DEAD

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]
SUCCEEDED, CANCELLED = TaskResult.SUCCEEDED, TaskResult.CANCELLED


class Site:
    """A namespace in which workers run as Pods, and their tasks as processes that wait for a word."""

    def __init__(self, tier: ApiTier, namespace: str, scratch: Scratch) -> None:
        self.client: RestClient = tier.client()
        self.namespace = namespace
        self.scratch = scratch
        self.kubeconfig = tier.kubeconfig("worker")

    def pod(self, name: str) -> dict[str, str]:
        """Create a worker's Pod, on a node without a kubelet; return the variables that identify it."""
        containers = [{"name": "worker", "image": "worker"}]
        body = {"metadata": {"name": name}, "spec": {"nodeName": "elsewhere", "containers": containers}}
        created: Any = self.client.create(f"/api/v1/namespaces/{self.namespace}/pods", body)
        uid = created["metadata"]["uid"]
        return {"OZ_POD_NAMESPACE": self.namespace, "OZ_POD_NAME": name, "OZ_POD_UID": uid}

    def end(self, name: str) -> None:
        """Remove a worker's Pod, as its kubelet does when its containers have ended."""
        self.client.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}", gracePeriodSeconds=0)

    def worker(
        self, environ: dict[str, str] | None = None, **keys: Any
    ) -> AbstractAsyncContextManager[DrivenWorker]:
        return driven_worker(keys.pop("kubeconfig", self.kubeconfig), self.namespace, environ=environ, **keys)

    def jobs(self) -> list[str]:
        return [item["metadata"]["name"] for item in listed(self.client, self.namespace, "jobs")]

    async def nothing_left(self) -> None:
        """No Job is left, nor a Pod of one."""
        await eventually(lambda: self.jobs() == [])
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=job-name"

        def none() -> bool:
            answer: Any = self.client.get(path)
            return not answer["items"]

        await eventually(none)


@pytest.fixture
async def site(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path
) -> AsyncIterator[Site]:
    """Tasks note that they have started, and run until the test notes ``go``."""
    scratch = Scratch(tmp_path)
    agent = tmp_path / "agent"
    agent.write_text("#!/bin/sh\n" + scratch.script('note started "$OZ_RUN_ID"; hold go; exit 0'))
    agent.chmod(0o755)
    async with kubelet(behaviours.always(execute([agent]))):
        yield Site(api_tier, namespace, scratch)


async def started(site: Site, *names: str) -> None:
    """Wait until each of these tasks has started, and see that each did once."""
    await eventually(lambda: len(site.scratch.lines("started")) >= len(names))
    assert sorted(site.scratch.lines("started")) == sorted(names)


# One worker after the other ------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["pending", "running", "ended", "reported"])
async def test_whenever_a_worker_dies_the_next_goes_on_where_it_was(site: Site, stage: str) -> None:
    """In the same Pod: a container that was started again is the same owner."""
    environ = site.pod("worker-0")
    async with site.worker(environ) as first:
        first.assign("run")
        await first.holds("run")
        if stage != "pending":
            await started(site, "run")
        if stage in {"ended", "reported"}:
            site.scratch.note("go")
            await first.ended("run")
        if stage == "reported":
            await first.emptied()
    async with site.worker(environ) as second:
        site.scratch.note("go")
        if stage == "reported":
            assert second.worker.active == 0
        else:
            assert [e.execution_id for e in second.worker.hello().executions or ()] == ["run-1"]
            assert await second.ended("run") is SUCCEEDED
            await second.holds("run")
        await second.emptied()
        await site.nothing_left()
    async with site.worker(environ) as third:
        assert (third.worker.active, third.claims, third.reports) == (0, [], [])
    await started(site, "run")


async def test_an_adopted_execution_takes_a_slot_until_it_has_ended(site: Site) -> None:
    environ = site.pod("worker-0")
    async with site.worker(environ) as first:
        for name in ("one", "two"):
            first.assign(name)
        await first.holds("one", "two")
        await started(site, "one", "two")
    async with site.worker(environ) as second:
        assert second.worker.active == 2
        site.scratch.note("go")
        assert [await second.ended(name) for name in ("one", "two")] == [SUCCEEDED] * 2
        assert second.worker.active == 0
        await second.emptied()


async def test_a_claim_that_is_never_delivered_stops_no_job(site: Site) -> None:
    environ = site.pod("worker-0")
    async with site.worker(environ) as driven:
        driven.wake = lambda: None  # type: ignore[method-assign]
        driven.assign("run")
        await started(site, "run")
        site.scratch.note("go")
        await eventually(lambda: driven.outbox.unreported == 1)
        assert site.jobs() == [job_name(key("run"))]
    async with site.worker(environ) as second:
        assert await second.ended("run") is SUCCEEDED
        await second.emptied()


# Two workers with one ID ---------------------------------------------------------------------------


async def test_a_worker_follows_anothers_jobs_when_that_one_is_gone_and_not_before(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first_pod, second_pod = site.pod("worker-0"), site.pod("worker-1")
    async with site.worker(second_pod) as second:
        async with site.worker(first_pod) as first:
            for name in ("one", "two", "three"):
                first.assign(name)
            second.assign("mine")
            await first.holds("one", "two", "three")
            await second.holds("mine")
            await started(site, "one", "two", "three", "mine")
        # Killed; but for all that anybody can see, its Pod is there.
        await asyncio.sleep(0.5)
        assert second.claims == [key("mine")]
        site.end("worker-0")
        await second.holds("one", "two", "three", "mine")
        assert second.worker.active == 4
        site.scratch.note("go")
        for name in ("one", "two", "three", "mine"):
            assert await second.ended(name) is SUCCEEDED
        await second.emptied()
    await site.nothing_left()
    await started(site, "one", "two", "three", "mine")
    logged = [m for m in caplog.messages if "another worker with this ID owns it and is alive" in m]
    assert sum(first_pod["OZ_POD_UID"] in message for message in logged) == 1


@pytest.mark.parametrize("successors", [1, 2])
async def test_a_rolling_restart_hands_every_task_over(site: Site, successors: int) -> None:
    """Each ends once at the control plane: two who report the same end say the same."""
    names = [f"task-{n}" for n in range(10)]
    old_pod = site.pod("old")
    async with staff(site, successors) as new:
        async with site.worker(old_pod) as old:
            for name in names:
                old.assign(name)
            await old.holds(*names)
            await started(site, *names)
            old.cancel("task-0")
            assert await old.ended("task-0") is CANCELLED
        assert [driven.claims for driven in new] == [[]] * successors
        site.end("old")
        for driven in new:
            await driven.holds(*names[1:])
        new[0].cancel("task-1")
        assert await new[0].ended("task-1") is CANCELLED
        site.scratch.note("go")
        for driven in new:
            for name in names[2:]:
                assert await driven.ended(name) is SUCCEEDED
        for driven in new[1:]:
            # It did not delete the Job, and leaves the word to the one that did.
            assert key("task-1") not in dict(driven.reports)
        await new[0].emptied()
    await site.nothing_left()
    await started(site, *names)


@asynccontextmanager
async def staff(site: Site, count: int) -> AsyncIterator[list[DrivenWorker]]:
    """Start so many workers, each in a Pod of its own."""
    async with AsyncExitStack() as stack:
        pods = [site.pod(f"new-{n}") for n in range(count)]
        yield [await stack.enter_async_context(site.worker(pod)) for pod in pods]


async def test_an_execution_that_another_worker_has_in_hand_is_not_adopted(site: Site) -> None:
    first_pod, second_pod = site.pod("worker-0"), site.pod("worker-1")
    async with site.worker(first_pod) as first, site.worker(second_pod) as second:
        first.assign("run")
        await first.holds("run")
        second.assign("run")
        await eventually(lambda: second.worker.active == 0)
        assert second.rejections == []
        site.end("worker-0")
        await second.holds("run")
        site.scratch.note("go")
        assert [await driven.ended("run") for driven in (first, second)] == [SUCCEEDED] * 2
        await second.emptied()
    await started(site, "run")


# Cancellation, at every stage ----------------------------------------------------------------------


@pytest.mark.parametrize("taken_over", [False, True])
@pytest.mark.parametrize("stage", ["pending", "running"])
async def test_a_cancellation_deletes_the_job_and_its_pods(site: Site, stage: str, taken_over: bool) -> None:
    environ = site.pod("worker-0")
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as earlier:
            driven = await earlier.enter_async_context(site.worker(environ))
            driven.assign("run")
            await driven.holds("run")
            if stage == "running":
                await started(site, "run")
            if not taken_over:
                stack.push_async_exit(earlier.pop_all())
        if taken_over:
            driven = await stack.enter_async_context(site.worker(environ))
        driven.cancel("run")
        assert await driven.ended("run") is CANCELLED
        await driven.emptied()
        await site.nothing_left()
    async with site.worker(environ) as next_one:
        assert next_one.worker.active == 0


async def test_a_cancellation_while_the_job_is_being_created_leaves_none(
    site: Site, api_tier: ApiTier, tmp_path: Path
) -> None:
    """The API server goes away with the answer, so that it is unknown whether the Job exists."""
    async with FaultProxy(api_tier.connection("worker")) as proxy:
        kubeconfig = proxy.kubeconfig(tmp_path, api_tier.token("worker"))
        async with site.worker(site.pod("worker-0"), kubeconfig=kubeconfig) as driven:
            proxy.away = True
            driven.assign("run")
            await asyncio.sleep(0.2)
            driven.cancel("run")
            await asyncio.sleep(0.2)
            assert (driven.claims, driven.reports, driven.rejections) == ([], [], [])
            proxy.away = False
            assert await driven.ended("run") is CANCELLED
            await driven.emptied()
    await site.nothing_left()


async def test_a_cancellation_after_the_end_leaves_the_end_as_it_is(site: Site) -> None:
    async with site.worker(site.pod("worker-0")) as driven:
        driven.assign("run")
        await started(site, "run")
        site.scratch.note("go")
        assert await driven.ended("run") is SUCCEEDED
        driven.cancel("run")
        await driven.emptied()
        assert len(driven.reports) == 1
    await site.nothing_left()


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_cancellation_that_meets_the_end_ends_in_one_of_the_two_once(
    site: Site, taken_over: bool
) -> None:
    names = [f"task-{n}" for n in range(10)]
    environ = site.pod("worker-0")
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as earlier:
            driven = await earlier.enter_async_context(site.worker(environ))
            for name in names:
                driven.assign(name)
            await started(site, *names)
            await driven.holds(*names)
            if not taken_over:
                stack.push_async_exit(earlier.pop_all())
        if taken_over:
            driven = await stack.enter_async_context(site.worker(environ))
        site.scratch.note("go")
        for name in names:
            await asyncio.sleep(0.02)
            driven.cancel(name)
        ends = Counter([await driven.ended(name) for name in names])
        assert ends.keys() <= {SUCCEEDED, CANCELLED}
        await driven.emptied()
        assert len(driven.reports) == len(names)
    await site.nothing_left()


# The Secret of a task's variables ------------------------------------------------------------------


async def test_a_job_with_its_secret_is_followed(site: Site, api_tier: ApiTier) -> None:
    allow_secrets(api_tier, site.namespace)
    environ = site.pod("worker-0")
    async with site.worker(environ, task_env_secret=True) as first:
        first.assign("run")
        await first.holds("run")
    async with site.worker(environ, task_env_secret=True) as second:
        site.scratch.note("go")
        assert await second.ended("run") is SUCCEEDED
        await second.emptied()
    await site.nothing_left()
    await eventually(lambda: listed(site.client, site.namespace, "secrets") == [])


async def test_a_job_without_its_secret_waits_for_its_task_to_be_assigned_again(
    site: Site, api_tier: ApiTier
) -> None:
    """Its worker died between the two, so it is unclaimed, and no other worker has the variables."""
    allow_secrets(api_tier, site.namespace)
    config = KubernetesConfig(namespace=site.namespace, task_env_secret=True)
    job = plan_job(spec("run"), config, worker_id="worker-a", cleanup=True, unique="dead", owner=DEAD).job
    site.client.create(f"/apis/batch/v1/namespaces/{site.namespace}/jobs", job)
    async with site.worker(site.pod("worker-0"), task_env_secret=True) as driven:
        await asyncio.sleep(0.3)
        assert driven.worker.active == 0
        driven.assign("run")
        await driven.holds("run")
        site.scratch.note("go")
        assert await driven.ended("run") is SUCCEEDED
        await driven.emptied()
    await site.nothing_left()
    await started(site, "run")
