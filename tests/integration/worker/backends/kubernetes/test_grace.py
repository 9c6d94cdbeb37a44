"""What heals by itself is waited for, and what does not is explained: on a real API server.

The kubelet, the scheduler and the autoscaler are played; quotas, admission and the Job
controller are the cluster's own. Graces are fractions of a second here.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.task_spec import TaskSpec
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import STRATEGIC_PATCH, AsyncRestClient
from tests.cluster.kubelet import Kubelet, behaviours
from tests.cluster.kubelet.pod_run import Script
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.backends.kubernetes.samples import AGENT

from .worker import QUICK, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

#: Events are read soon, so that a test need not wait for them.
ASKS_SOON: Final = dataclasses.replace(
    QUICK, observation=ObservationPolicy(ask_after=0.1, ask_patience=2.0, refusal_grace=0.3)
)
NO_SECRET: Final = 'MountVolume.SetUp failed for volume "key" : secret "key" not found'
TRIGGERED: Final = ("TriggeredScaleUp", "pod triggered scale-up: [{workers 1->2 (max: 5)}]")
NOT_TRIGGERED: Final = ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu")
SUCCEEDS: Final = behaviours.succeed(after=0.05)


async def run(backend: KubernetesBackend, spec: TaskSpec | str = "waits") -> Outcome:
    """Run a task to its end."""
    execution = await backend.launch(task(spec) if isinstance(spec, str) else spec, NoOutput())
    async with asyncio.timeout(HANG_TIMEOUT):
        outcome = await execution.wait()
    await execution.release(outcome)
    return outcome


def stuck_after(**times: float) -> Any:
    """Settings of a backend that gives up soon."""
    return dataclasses.replace(ASKS_SOON, observation=dataclasses.replace(ASKS_SOON.observation, **times))


# Volumes


async def test_a_mount_that_heals_fails_nothing(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    script = behaviours.failed_mount(NO_SECRET, then=SUCCEEDS, after=1.0)
    async with (
        kubelet(behaviours.always(script)),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, pull_grace=10.0
        ) as backend,
    ):
        assert (await run(backend)).result is TaskResult.SUCCEEDED
        assert backend.stats.count("list", "events") >= 1


async def test_a_mount_that_does_not_recover_fails_with_the_kubelets_message(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.failed_mount(NO_SECRET))),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, pull_grace=0.5
        ) as backend,
    ):
        outcome = await run(backend)
    assert outcome.reason is FailureReason.VOLUME_MOUNT
    assert 'secret "key" not found' in outcome.message


# Starts without progress


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (task("stuck", sidecars=[AGENT]), FailureReason.INIT_STUCK),
        (task("stuck"), FailureReason.CONTAINER_CREATE),
    ],
    ids=["init container", "task"],
)
async def test_a_pod_that_gets_no_further_is_given_up_with_the_last_warning(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, spec: TaskSpec, reason: FailureReason
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.stuck())),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=stuck_after(stuck_timeout=0.6)
        ) as backend,
    ):
        outcome = await run(backend, spec)
    assert outcome.reason is reason
    assert "(FailedCreatePodSandBox: no free IP in the range)" in outcome.message


# The autoscaler


async def test_a_node_that_the_autoscaler_adds_is_waited_for(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    script = behaviours.unschedulable(autoscaler=TRIGGERED, then=SUCCEEDS, after=2.0)
    async with (
        kubelet(behaviours.always(script)),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, unschedulable_timeout=0.5
        ) as backend,
    ):
        assert (await run(backend)).result is TaskResult.SUCCEEDED


async def test_a_node_that_the_autoscaler_adds_and_that_never_comes(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    keys: dict[str, Any] = {"unschedulable_timeout": 0.4, "scale_up_timeout": 1.0}
    async with (
        kubelet(behaviours.always(behaviours.unschedulable(autoscaler=TRIGGERED))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, **keys) as backend,
    ):
        outcome = await run(backend)
    assert outcome.reason is FailureReason.UNSCHEDULABLE
    assert "No node takes its Pod within 1 s" in outcome.message
    assert "workers 1->2" in outcome.message


async def test_a_node_that_the_autoscaler_does_not_add_is_not_waited_for(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.unschedulable(autoscaler=NOT_TRIGGERED))),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, unschedulable_timeout=3600.0
        ) as backend,
    ):
        outcome = await run(backend)
    assert outcome.reason is FailureReason.UNSCHEDULABLE
    assert "NotTriggerScaleUp: pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu" in outcome.message


async def test_without_the_permission_to_list_events_a_pod_is_judged_by_its_status(
    api_tier: ApiTier,
    api: AsyncRestClient,
    namespace: str,
    kubelet: KubeletFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/oz-agent-worker"
    role = await api.get(path)
    role["rules"] = [rule for rule in role["rules"] if "events" not in rule["resources"]]
    await api.request("PUT", path, role)
    async with (
        kubelet(behaviours.always(behaviours.unschedulable(autoscaler=TRIGGERED))),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, unschedulable_timeout=0.5
        ) as backend,
    ):
        outcomes = [await run(backend, name) for name in ("first", "second")]
        assert backend.stats.count("list", "events") == 1
    assert [outcome.reason for outcome in outcomes] == [FailureReason.UNSCHEDULABLE] * 2
    assert "No node takes its Pod within 0.5 s" in outcomes[0].message
    logged = [record for record in caplog.records if "may not list events" in record.getMessage()]
    assert len(logged) == 1


# Pods that are never made


async def test_a_job_whose_pods_are_not_admitted_fails_with_the_clusters_message(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await api.request("PATCH", f"/api/v1/namespaces/{namespace}", labels, STRATEGIC_PATCH)
    async with (
        kubelet(behaviours.always(SUCCEEDS)) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON) as backend,
    ):
        outcome = await run(backend)
        assert node.started == []
    assert outcome.reason is FailureReason.POD_MISSING
    assert 'violates PodSecurity "restricted:latest"' in outcome.message
    assert "doctor" in outcome.message


async def put_quota(api: AsyncRestClient, namespace: str, pods: int) -> None:
    """Let the namespace have so many Pods, and wait until the quota holds."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": str(pods)}}}
    await api.create(path, quota)

    async def holds() -> bool:
        return bool((await api.get(f"{path}/small")).get("status", {}).get("hard"))

    await eventually(holds)


async def test_a_quota_without_room_fails_after_the_unschedulable_timeout(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    await put_quota(api, namespace, 0)
    async with running_backend(
        api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, unschedulable_timeout=0.6
    ) as backend:
        outcome = await run(backend)
    assert outcome.reason is FailureReason.POD_MISSING
    assert "no room for it in the namespace's quota (FailedCreate: pods " in outcome.message
    assert "exceeded quota: small" in outcome.message


async def test_a_quota_in_which_room_comes_free_fails_nothing(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    await put_quota(api, namespace, 0)
    async with (
        kubelet(behaviours.always(SUCCEEDS)),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=ASKS_SOON, unschedulable_timeout=0.0
        ) as backend,
    ):
        running = asyncio.create_task(run(backend))
        await eventually(lambda: backend.stats.count("list", "events") >= 2)
        assert not running.done()
        await api.request("DELETE", f"/api/v1/namespaces/{namespace}/resourcequotas/small")
        assert (await running).result is TaskResult.SUCCEEDED


# What it costs


async def test_events_are_read_only_for_tasks_with_a_problem(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    scripts: dict[str, Script] = {"in-trouble": behaviours.unschedulable(then=SUCCEEDS, after=1.0)}
    behaviour = behaviours.by_annotation("oz.warp.dev/task-id", scripts, behaviours.succeed(after=0.5))
    async with (
        kubelet(behaviour) as node,
        running_backend(
            api_tier.kubeconfig("worker"), namespace, unschedulable_timeout=30.0, settings=QUICK
        ) as backend,
    ):
        healthy = [f"task-{n}" for n in range(10)]
        outcomes = await asyncio.gather(*(run(backend, name) for name in (*healthy, "in-trouble")))
        assert {outcome.result for outcome in outcomes} == {TaskResult.SUCCEEDED}
        # Its problem was over before events were worth a request.
        assert reads(api_tier, namespace) == []
    soon = stuck_after(ask_after=0.2)
    async with (
        kubelet(behaviour) as node,
        running_backend(
            api_tier.kubeconfig("worker"), namespace, unschedulable_timeout=30.0, settings=soon
        ) as backend,
    ):
        began = time.monotonic()
        await run(backend, "in-trouble")
        took = time.monotonic() - began
        [uid] = [pod["metadata"]["uid"] for pod in node.started]
        asked = reads(api_tier, namespace)
        assert {f"involvedObject.uid%3D{uid}" in uri for uri in asked} == {True}
        assert 1 <= len(asked) <= took / QUICK.events.every + 1


def reads(tier: ApiTier, namespace: str) -> list[str]:
    """The requests by which the worker read events."""
    entries = tier.audit(user="worker", namespace=namespace)
    return [entry.request_uri for entry in entries if entry.resource == "events"]
