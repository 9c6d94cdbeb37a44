"""What a real API server answers to a creation that it hinders, and what becomes of the task."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import LaunchError, NoOutput
from tests.cluster.api_tier import ApiTier
from tests.cluster.errors import ApiError
from tests.cluster.kubelet import Kubelet, behaviours
from tests.cluster.processes import free_ports
from tests.cluster.rest import wait_for
from tests.integration.cli.inspecting import command_with
from tests.integration.worker.backends.harness import eventually

from .driven_worker import DrivenWorker, key
from .operators import jobs_in, set_quota
from .test_env_secret import allow_secrets
from .worker import IMPATIENT, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@pytest.fixture
def webhook(api_tier: ApiTier, namespace: str) -> Iterator[Callable[[], None]]:
    """A validating webhook of this namespace's Jobs that fails closed; calling it removes it."""
    client = api_tier.client()
    (port,) = free_ports(1)  # nothing listens there
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    hook = {
        "name": "closed.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/"},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    client.create(WEBHOOKS, {"metadata": {"name": namespace}, "webhooks": [hook]})
    refuses_jobs(api_tier, namespace)
    existing = [namespace]

    def remove() -> None:
        client.delete(f"{WEBHOOKS}/{existing.pop()}")

    yield remove
    if existing:
        remove()


def refuses_jobs(tier: ApiTier, namespace: str) -> None:
    """Wait until admission knows of the webhook."""
    container = {"name": "c", "image": "i"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"metadata": {"name": "probe"}, "spec": {"template": pod}}

    def refused() -> bool:
        try:
            tier.client().create(f"/apis/batch/v1/namespaces/{namespace}/jobs?dryRun=All", job)
        except ApiError as error:
            return "failed calling webhook" in str(error)
        return False

    wait_for("the webhook", refused)


async def test_a_webhook_that_fails_closed_sends_the_task_back_with_its_words(
    api_tier: ApiTier, namespace: str, webhook: Callable[[], None]
) -> None:
    """K5: HTTP 500 of a real API server."""
    async with running_backend(api_tier.kubeconfig("worker"), namespace, settings=IMPATIENT) as backend:
        worker = DrivenWorker(backend)
        worker.assign("hindered")
        await eventually(lambda: worker.rejections == [key("hindered")])
    assert 'failed calling webhook "closed.example.com"' in worker.messages[0]
    assert "connection refused" in worker.messages[0]
    assert (worker.claims, jobs_in(api_tier, namespace)) == ([], [])
    done = await command_with(api_tier.kubeconfig("worker", namespace))("explain", "hindered")
    assert done.returncode == 1
    assert "none is created at present: Internal error occurred: failed calling webhook" in done.stderr


async def test_a_cancellation_is_taken_while_a_webhook_hinders_the_creation(
    api_tier: ApiTier, namespace: str, webhook: Callable[[], None]
) -> None:
    """K5: at once, and nothing is left."""
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        worker = DrivenWorker(backend)
        worker.assign("hindered")
        await eventually(lambda: backend.stats.count("create", "jobs") > 2)
        worker.cancel("hindered")
        assert await worker.ended("hindered") is TaskResult.CANCELLED
    assert jobs_in(api_tier, namespace) == []


async def test_a_task_waits_for_the_webhook(
    api_tier: ApiTier, namespace: str, webhook: Callable[[], None]
) -> None:
    """K5: one that comes back costs nothing but time."""
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        launching = asyncio.create_task(backend.launch(task("hindered"), NoOutput()))
        await eventually(lambda: backend.stats.count("create", "jobs") > 2)
        assert not launching.done()
        await asyncio.to_thread(webhook)
        await launching
    assert len(jobs_in(api_tier, namespace)) == 1


async def test_a_quota_of_jobs_is_waited_for_and_says_which_jobs_hold_it(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    """K11: ``count/jobs.batch: 1``, and a failed Job that is kept."""
    async with (
        kubelet(behaviours.always(behaviours.exit_with(3))),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        first = await backend.launch(task("first"), NoOutput())
        outcome = await first.wait()
        await first.release(outcome)
        (kept,) = jobs_in(api_tier, namespace)
        await asyncio.to_thread(set_quota, api_tier, namespace, "one", {"count/jobs.batch": "1"})
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task("second"), NoOutput())
        failure = caught.value.outcome
        assert failure is not None
        assert failure.reason is FailureReason.JOB_CREATE
        assert "exceeded quota: one" in failure.message
        assert f"Jobs of this worker that have ended count too: {kept} (each goes 86400 s" in failure.message
    async with running_backend(
        api_tier.kubeconfig("worker"), namespace, unschedulable_timeout=0.0
    ) as backend:
        launching = asyncio.create_task(backend.launch(task("third"), NoOutput()))
        await eventually(lambda: backend.stats.count("create", "jobs") > 1)
        assert not launching.done()
        await asyncio.to_thread(
            api_tier.client().delete, f"/apis/batch/v1/namespaces/{namespace}/jobs/{kept}"
        )
        await launching


async def test_a_quota_of_secrets_is_waited_for_without_a_job(api_tier: ApiTier, namespace: str) -> None:
    """K11: a task whose variables are in a Secret."""
    allow_secrets(api_tier, namespace)
    await asyncio.to_thread(set_quota, api_tier, namespace, "none", {"count/secrets": "0"})
    async with running_backend(api_tier.kubeconfig("worker"), namespace, task_env_secret=True) as backend:
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task("second"), NoOutput())
    assert caught.value.outcome is not None
    assert "exceeded quota: none" in caught.value.outcome.message
    assert jobs_in(api_tier, namespace) == []


async def test_a_job_that_etcd_does_not_store_fails_the_task(api_tier: ApiTier, namespace: str) -> None:
    """K12: what the API server adds for each variable is not known beforehand."""
    environment = {f"V{n}": Secret("x") for n in range(30_000)}
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        with pytest.raises(LaunchError, match="larger than the cluster stores") as caught:
            await backend.launch(dataclasses.replace(task("large"), environment=environment), NoOutput())
    failure = caught.value.outcome
    assert failure is not None
    assert failure.reason is FailureReason.TASK_TOO_LARGE
