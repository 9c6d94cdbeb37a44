"""Pods that do not end by themselves: deleted, preempted, or gone with their node."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import STRATEGIC_PATCH, AsyncRestClient
from tests.cluster.kubelet import Kubelet, behaviours
from tests.timeouts import HANG_TIMEOUT

from .worker import QUICK, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

RUNS_ON = behaviours.always(behaviours.runs_until_cancelled())


@asynccontextmanager
async def running_task(
    backend: KubernetesBackend, node: Kubelet, namespace: str
) -> AsyncIterator[tuple[asyncio.Task[Outcome], str]]:
    """Start a task; gives its end, and the path of its Pod once that runs."""
    execution = await backend.launch(task("runs"), NoOutput())
    waiting = asyncio.create_task(execution.wait())
    await node.until(lambda kubelet: kubelet.count("Running") == 1)
    name = node.started[0]["metadata"]["name"]
    async with asyncio.timeout(HANG_TIMEOUT):
        yield waiting, f"/api/v1/namespaces/{namespace}/pods/{name}"
    await execution.release(waiting.result())


async def test_a_pod_that_somebody_deleted(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(RUNS_ON) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
        running_task(backend, node, namespace) as (waiting, pod),
    ):
        await api.request("DELETE", pod)
        outcome = await waiting
    assert (outcome.reason, outcome.exit_code) == (FailureReason.POD_MISSING, 143)
    assert "The Pod was deleted by somebody while container `task` ran" in outcome.message


async def test_a_pod_deleted_by_force_leaves_no_reason(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(RUNS_ON) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
        running_task(backend, node, namespace) as (waiting, pod),
    ):
        await node.vanish()
        await api.request("DELETE", pod, {"gracePeriodSeconds": 0})
        outcome = await waiting
    assert (outcome.reason, outcome.exit_code) == (FailureReason.POD_MISSING, None)
    assert "its Pod is gone" in outcome.message


async def test_a_pod_whose_place_another_one_took(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.preempted())),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("preempted"), NoOutput())
        outcome = await execution.wait()
    assert outcome.reason is FailureReason.POD_PREEMPTED
    assert "default-scheduler: preempting to accommodate a higher priority pod" in outcome.message


async def test_a_pod_that_is_collected_with_its_node(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(RUNS_ON) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
        running_task(backend, node, namespace) as (waiting, pod),
    ):
        await node.vanish()
        # What the Pod garbage collector does, a minute after the Node is gone.
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
        }
        status = {"status": {"phase": "Failed", "conditions": [condition]}}
        await api.request("PATCH", f"{pod}/status", status, STRATEGIC_PATCH)
        await api.request("DELETE", pod, {"gracePeriodSeconds": 0})
        outcome = await waiting
    assert outcome.reason is FailureReason.NODE_LOST
    assert "PodGC: node no longer exists" in outcome.message


async def test_a_pod_whose_node_does_not_confirm_its_end(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    soon = dataclasses.replace(QUICK, observation=ObservationPolicy(lost_timeout=0.5))
    async with (
        kubelet(RUNS_ON) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=soon) as backend,
        running_task(backend, node, namespace) as (waiting, pod),
    ):
        await node.vanish()
        await api.request("DELETE", pod, {"gracePeriodSeconds": 1})
        outcome = await waiting
    assert outcome.reason is FailureReason.NODE_LOST
    assert f"its node {node.name} does not confirm" in outcome.message
