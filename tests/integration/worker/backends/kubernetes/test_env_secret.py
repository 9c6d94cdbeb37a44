"""A task's variables in a Secret: on a real API server, and on one that misbehaves."""

import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import LaunchError, NoOutput
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours, execute
from tests.cluster.rest import RestClient, wait_for
from tests.integration.worker.backends.harness import eventually

from .api_server import ApiServer, answers_and_breaks, breaks, forbidden, says
from .worker import DEAD, IMPATIENT, QUICK, Output, running_backend, task

KubeletFactory = Callable[..., Kubelet]

#: A client that hands each failure on.
NO_PATIENCE = RetryPolicy(budget=0.0)
RBAC = "rbac.authorization.k8s.io"
JOB = job_name(ExecutionKey("run", "run-1"))


def allow_secrets(tier: ApiTier, namespace: str) -> None:
    """Grant the worker the one permission that ``task_env_secret`` needs besides."""
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
    path = f"/apis/{RBAC}/v1/namespaces/{namespace}"
    tier.client().create(f"{path}/roles", {"metadata": {"name": "secrets"}, "rules": rules})
    binding = {
        "metadata": {"name": "secrets"},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "secrets"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "worker"}],
    }
    tier.client().create(f"{path}/rolebindings", binding)
    worker = tier.client("worker")

    def allowed() -> bool:
        attributes = {"namespace": namespace, "verb": "create", "resource": "secrets"}
        review = {"spec": {"resourceAttributes": attributes}}
        answer: Any = worker.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    wait_for("the permission to create secrets", allowed)


def listed(client: RestClient, namespace: str, resource: str) -> list[Any]:
    """The objects of a namespace."""
    api = "/apis/batch/v1" if resource == "jobs" else "/api/v1"
    answer: Any = client.get(f"{api}/namespaces/{namespace}/{resource}")
    return list(answer["items"])


@pytest.mark.cluster
async def test_a_task_has_its_variables_and_neither_job_nor_pod_shows_them(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path
) -> None:
    allow_secrets(api_tier, namespace)
    agent = tmp_path / "agent"
    agent.write_text('#!/bin/sh\necho "$TOKEN|$MODE|$OZ_RUN_ID"\n')
    agent.chmod(0o755)
    environment = {"TOKEN": Secret("sword$(MODE)fish é"), "MODE": Secret("")}
    spec = dataclasses.replace(task("run"), environment=environment)
    client, output = api_tier.client(), Output()
    async with (
        kubelet(behaviours.always(execute([agent]))),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, task_env_secret=True, setup_command='test -n "$TOKEN"'
        ) as backend,
    ):
        execution = await backend.launch(spec, output)
        outcome = await execution.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        assert output.received.decode() == "sword$(MODE)fish é||run\n"
        shown = json.dumps([listed(client, namespace, "jobs"), listed(client, namespace, "pods")])
        assert "sword" not in shown
        (secret,) = listed(client, namespace, "secrets")
        assert secret["immutable"] is True
        assert secret["metadata"]["ownerReferences"][0]["name"] == JOB
        await execution.release(outcome)
        # The garbage collector does it: the worker has no permission to.
        await eventually(lambda: listed(client, namespace, "secrets") == [])
        asked = [(e.verb, e.resource) for e in api_tier.audit(user="worker", namespace=namespace)]
    written = [(verb, resource) for verb, resource in asked if verb in {"create", "delete"}]
    assert written == [("create", "jobs"), ("create", "secrets"), ("delete", "jobs")]


@pytest.mark.cluster
async def test_without_the_permission_the_task_fails_with_what_to_change_and_nothing_is_left(
    api_tier: ApiTier, namespace: str
) -> None:
    async with running_backend(
        api_tier.kubeconfig("worker"), namespace, settings=IMPATIENT, task_env_secret=True
    ) as backend:
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task("run"), NoOutput())
        outcome = caught.value.outcome
        assert outcome is not None
        assert outcome.reason is FailureReason.JOB_CREATE
        assert 'cannot create resource "secrets"' in outcome.message
        assert "task_env_secret needs the permission to create secrets" in outcome.message
        assert "swordfish" not in outcome.message
        assert listed(api_tier.client(), namespace, "jobs") == []


@pytest.mark.cluster
async def test_a_job_whose_worker_died_before_its_secret_was_there_gets_it_from_the_next(
    api_tier: ApiTier, namespace: str
) -> None:
    allow_secrets(api_tier, namespace)
    config = KubernetesConfig(namespace=namespace, task_env_secret=True)
    job = plan_job(task("run"), config, worker_id="worker-a", cleanup=True, unique="dead", owner=DEAD).job
    client = api_tier.client()
    client.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
    # The setting may be another since: what the Job's Pod waits for counts.
    for wanted in (True, False):
        async with running_backend(
            api_tier.kubeconfig("worker"), namespace, task_env_secret=wanted
        ) as backend:
            await backend.launch(task("run"), NoOutput())
        (secret,) = listed(client, namespace, "secrets")
        assert secret["metadata"]["name"] == f"{JOB}-env-dead"
        assert list(secret["data"]) == ["TOKEN"]


# On an API server that misbehaves ----------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


async def test_a_lost_answer_leaves_one_secret(server: ApiServer, tmp_path: Path) -> None:
    server.faults["create", "secrets"].extend([answers_and_breaks, says(503), breaks])
    async with running_backend(server.kubeconfig(tmp_path), "ns", task_env_secret=True) as backend:
        await backend.launch(task("run"), NoOutput())
    assert server.names("jobs") == [JOB]
    assert len(server.names("secrets")) == 1


async def test_a_secret_that_cannot_be_created_for_now_is_asked_for_until_it_can(
    server: ApiServer, tmp_path: Path
) -> None:
    """The Job exists by then: its task must not go back to the queue."""
    impatient = dataclasses.replace(QUICK, client=dataclasses.replace(QUICK.client, create=NO_PATIENCE))
    async with running_backend(
        server.kubeconfig(tmp_path), "ns", settings=impatient, task_env_secret=True
    ) as backend:
        server.faults["create", "secrets"].extend([says(503)] * 20)
        await backend.launch(task("run"), NoOutput())
    assert (server.names("jobs"), len(server.names("secrets"))) == ([JOB], 1)


async def test_a_refused_secret_leaves_no_job_however_long_its_deletion_takes(
    server: ApiServer, tmp_path: Path
) -> None:
    impatient = dataclasses.replace(QUICK, client=dataclasses.replace(QUICK.client, delete=NO_PATIENCE))
    async with running_backend(
        server.kubeconfig(tmp_path), "ns", settings=impatient, task_env_secret=True
    ) as backend:
        server.faults["create", "secrets"].append(says(403, "Forbidden", "a policy says no"))
        server.faults["delete", "jobs"].extend([breaks] * 20)
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task("run"), NoOutput())
    assert caught.value.outcome is not None
    assert server.names("jobs") == []


async def test_an_adopted_job_is_not_deleted_for_want_of_its_secret(
    server: ApiServer, tmp_path: Path
) -> None:
    async with running_backend(server.kubeconfig(tmp_path), "ns", task_env_secret=True) as backend:
        await backend.launch(task("run"), NoOutput())
        # A quota is looked at before it is known that the Secret exists.
        server.faults["create", "secrets"].append(forbidden("create", "secrets"))
        await backend.launch(task("run"), NoOutput())
    assert server.names("jobs") == [JOB]


async def test_each_job_of_a_name_has_a_secret_of_its_own(server: ApiServer, tmp_path: Path) -> None:
    async with running_backend(server.kubeconfig(tmp_path), "ns", task_env_secret=True) as backend:
        await backend.launch(task("run"), NoOutput())
        # The garbage collector has yet to come for the first one's Secret.
        await server.remove("jobs", JOB)
        await backend.launch(task("run"), NoOutput())
    assert len(server.names("secrets")) == 2
