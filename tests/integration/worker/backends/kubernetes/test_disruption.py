"""Disruptions against the real Job controller, with the kubelet played.

The controller waits ten seconds before it starts a Pod again, so that all tasks that are
started again share one test.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient
from tests.cluster.kubelet import Kubelet, behaviours
from tests.cluster.kubelet.pod_run import Behaviour, Script
from tests.integration.worker.backends.harness import eventually

from .worker import Output, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

EVICTED = behaviours.evicted(after=0.05)
RUNS_ON = behaviours.runs_until_cancelled(output="first attempt\n")


class Attempts:
    """A behaviour: each task's Pods follow its scripts in turn, the last one for all that come."""

    def __init__(self, scripts: dict[str, Sequence[Script]]) -> None:
        self._scripts = scripts
        self.begun: Counter[str] = Counter()

    def __call__(self, pod: Any) -> Script:
        name = pod["metadata"]["annotations"]["oz.warp.dev/task-id"]
        scripts = self._scripts[name]
        self.begun[name] += 1
        return scripts[min(self.begun[name], len(scripts)) - 1]


async def ended(backend: KubernetesBackend, name: str) -> tuple[Outcome, str]:
    """Run a task to its end; return how it ended, and its output."""
    output = Output()
    execution = await backend.launch(task(name), output)
    outcome = await execution.wait()
    await execution.release(outcome)
    return outcome, output.received.decode()


async def drain(api: AsyncRestClient, namespace: str, name: str) -> None:
    """Evict the task's running Pod through the API, as ``kubectl drain`` does."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    label = f"job-name={job_name(ExecutionKey(name, f'{name}-1'))}"
    pods: list[Any] = []

    async def running() -> bool:
        pods[:] = (await api.get(f"{path}?labelSelector={label}"))["items"]
        return [pod["status"].get("phase") for pod in pods] == ["Running"]

    await eventually(running)
    metadata = {"name": pods[0]["metadata"]["name"], "namespace": namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    await api.create(f"{path}/{metadata['name']}/eviction", eviction)


async def test_a_disrupted_pod_is_started_again_so_often_and_no_more(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    attempts = Attempts(
        {
            "evicted-once": (EVICTED, behaviours.succeed(after=0.05, output="second attempt\n")),
            "evicted-always": (EVICTED,),
            "drained": (RUNS_ON, behaviours.succeed(after=0.05, output="second attempt\n")),
            "then-fails": (EVICTED, behaviours.exit_with(3, after=0.05, output="oh\n")),
        }
    )
    async with (
        kubelet(attempts) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, retry_on_disruption=1) as backend,
    ):
        runs = {
            name: asyncio.create_task(ended(backend, name))
            for name in ("evicted-once", "evicted-always", "drained", "then-fails")
        }
        await drain(api, namespace, "drained")
        await node.until(lambda _: len(node.started) >= 5)
        # The first attempts are over, and their tasks are not.
        assert not any(run.done() for run in runs.values())
        outcomes = {name: await run for name, run in runs.items()}

    assert attempts.begun == dict.fromkeys(runs, 2)
    for name in ("evicted-once", "drained"):
        outcome, output = outcomes[name]
        assert outcome.result is TaskResult.SUCCEEDED
        assert output.endswith("second attempt\n")
    assert outcomes["evicted-always"][0].reason is FailureReason.EVICTED
    outcome, output = outcomes["then-fails"]
    assert (outcome.reason, outcome.exit_code) == (FailureReason.CONTAINER_EXIT, 3)
    assert output.endswith("oh\n")


@pytest.mark.parametrize(
    ("script", "retries", "reason", "exit_code"),
    [
        (behaviours.exit_with(1, after=0.05), 3, FailureReason.CONTAINER_EXIT, 1),
        (behaviours.exit_with(143, after=0.05), 3, FailureReason.CONTAINER_EXIT, 143),
        (behaviours.oom_killed(after=0.05), 3, FailureReason.CONTAINER_OOM, 137),
        (EVICTED, 0, FailureReason.EVICTED, None),
    ],
    ids=["exit code", "terminated", "out of memory", "evicted, no retries"],
)
async def test_a_failure_of_the_task_is_the_end(
    api_tier: ApiTier,
    namespace: str,
    kubelet: KubeletFactory,
    script: Script,
    retries: int,
    reason: FailureReason,
    exit_code: int | None,
) -> None:
    behaviour: Behaviour = behaviours.always(script)
    async with (
        kubelet(behaviour) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, retry_on_disruption=retries) as backend,
    ):
        outcome, _ = await ended(backend, "fails")
        assert (outcome.reason, outcome.exit_code) == (reason, exit_code)
        assert len(node.started) == 1


async def test_a_setup_that_fails_is_the_end(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    keys: dict[str, Any] = {"retry_on_disruption": 3, "setup_command": "exit 7"}
    async with (
        kubelet(behaviours.always(behaviours.init_fails(7, container="setup"))) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, **keys) as backend,
    ):
        outcome, _ = await ended(backend, "fails")
        assert (outcome.reason, outcome.exit_code) == (FailureReason.SETUP_COMMAND, 7)
        assert len(node.started) == 1
