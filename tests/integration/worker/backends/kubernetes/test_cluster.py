"""The backend against a real API server, with the kubelet played."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import LaunchError, NoOutput
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import PreflightSettings
from oz_agent_worker.worker.task_spec import TaskSpec
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, PodRun, behaviours
from tests.cluster.rest import RestClient
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .worker import PATIENT_PREFLIGHT, QUICK, Output, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]


def jobs_in(client: RestClient, namespace: str) -> list[Any]:
    """The Jobs of a namespace."""
    listed: Any = client.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return list(listed["items"])


def pods_in(client: RestClient, namespace: str) -> list[Any]:
    """The Pods of a namespace."""
    listed: Any = client.get(f"/api/v1/namespaces/{namespace}/pods")
    return list(listed["items"])


async def test_a_successful_job_is_deleted_once_its_result_is_delivered(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    output = Output()
    async with (
        kubelet(behaviours.always(behaviours.succeed(after=0.1, output="hello\nwörld\n"))),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("good"), output)
        outcome = await execution.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        assert output.received.decode() == "hello\nwörld\n"
        assert len(jobs_in(api_tier.client(), namespace)) == 1
        await execution.release(outcome)
        assert jobs_in(api_tier.client(), namespace) == []
        await eventually(lambda: pods_in(api_tier.client(), namespace) == [])


@pytest.mark.parametrize(
    ("behaviour", "reason", "exit_code"),
    [
        (behaviours.exit_with(3, output="oh\n"), FailureReason.CONTAINER_EXIT, 3),
        (behaviours.oom_killed(after=0.05, output="oh\n"), FailureReason.CONTAINER_OOM, 137),
    ],
    ids=["exit code", "out of memory"],
)
async def test_a_failed_job_stays_for_a_post_mortem(
    api_tier: ApiTier,
    namespace: str,
    kubelet: KubeletFactory,
    behaviour: Any,
    reason: FailureReason,
    exit_code: int,
) -> None:
    output = Output()
    async with (
        kubelet(behaviours.always(behaviour)),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("bad"), output)
        outcome = await execution.wait()
        assert (outcome.result, outcome.reason, outcome.exit_code) == (TaskResult.FAILED, reason, exit_code)
        assert output.received == b"oh\n"
        await execution.release(outcome)
        assert len(jobs_in(api_tier.client(), namespace)) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (behaviours.image_pull_back_off("not found"), FailureReason.IMAGE_PULL),
        (behaviours.image_pull_back_off("connection refused"), FailureReason.IMAGE_PULL),
        (behaviours.invalid_image_name(), FailureReason.INVALID_IMAGE),
        (behaviours.unschedulable(), FailureReason.UNSCHEDULABLE),
    ],
    ids=["no such image", "registry away", "image name", "unschedulable"],
)
@pytest.mark.parametrize("cleanup", [True, False])
async def test_a_job_that_cannot_start_does_not_start_after_its_failure_was_reported(
    api_tier: ApiTier,
    namespace: str,
    kubelet: KubeletFactory,
    behaviour: Any,
    reason: FailureReason,
    cleanup: bool,
) -> None:
    async with (
        kubelet(behaviours.always(behaviour)),
        running_backend(api_tier.kubeconfig("worker"), namespace, cleanup=cleanup) as backend,
    ):
        execution = await backend.launch(task("stuck"), Output())
        outcome = await execution.wait()
        assert (outcome.result, outcome.reason) == (TaskResult.FAILED, reason)
        assert len(jobs_in(api_tier.client(), namespace)) == (0 if cleanup else 1)
        await execution.release(outcome)


async def test_a_pull_that_heals_fails_nothing(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    script = behaviours.err_image_pull_then_ok(behaviours.succeed(after=0.05))
    async with (
        kubelet(behaviours.always(script)),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("patient"), NoOutput())
        assert (await execution.wait()).result is TaskResult.SUCCEEDED


async def test_a_cancellation_deletes_the_job_and_its_pods(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    output = Output()
    async with (
        kubelet(behaviours.always(behaviours.runs_until_cancelled(output="so far\n"))) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("long"), output)
        waiting = asyncio.create_task(execution.wait())
        client = api_tier.client()
        await eventually(lambda: [p["status"]["phase"] for p in pods_in(client, namespace)] == ["Running"])
        await execution.stop("the user changed their mind")
        outcome = await waiting
        assert outcome == Outcome(TaskResult.CANCELLED, "the user changed their mind")
        assert jobs_in(client, namespace) == []
        await eventually(lambda: pods_in(client, namespace) == [])
        await execution.stop("again")
        await execution.release(outcome)
        assert len(node.started) == 1
        assert backend.stats.count("delete") == 1


async def test_a_job_deleted_by_somebody_else_is_a_failure_that_says_so(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.runs_until_cancelled())),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("gone"), NoOutput())
        waiting = asyncio.create_task(execution.wait())
        name = job_name(ExecutionKey("gone", "gone-1"))
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        api_tier.client().delete(path, propagationPolicy="Background")
        outcome = await waiting
        assert outcome.reason is FailureReason.JOB_FAILED
        assert "deleted by somebody else" in outcome.message
        await execution.release(outcome)


async def test_an_existing_execution_is_adopted(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    kubeconfig = api_tier.kubeconfig("worker")
    async with kubelet(behaviours.always(behaviours.succeed(after=1.0))) as node:
        async with running_backend(kubeconfig, namespace) as first:
            await first.launch(task("twice"), NoOutput())
        async with running_backend(kubeconfig, namespace) as second:
            execution = await second.launch(task("twice"), NoOutput())
            assert (await execution.wait()).result is TaskResult.SUCCEEDED
            assert second.stats.count("get", "jobs") == 1
        assert len(node.started) == 1


async def test_another_execution_of_the_same_name_is_not_adopted(api_tier: ApiTier, namespace: str) -> None:
    def with_ids(task_id: str) -> TaskSpec:
        return dataclasses.replace(task(task_id), key=ExecutionKey(task_id, "12345678"))

    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        await backend.launch(with_ids("run.a"), NoOutput())
        with pytest.raises(LaunchError, match="not of execution") as caught:
            await backend.launch(with_ids("run-a"), NoOutput())
    assert caught.value.outcome is not None
    assert caught.value.outcome.reason is FailureReason.JOB_CREATE


async def test_an_api_servers_refusal_fails_the_task_with_its_message(
    api_tier: ApiTier, namespace: str
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    api_tier.client().create(f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        with pytest.raises(LaunchError) as caught:
            await backend.launch(task("over"), NoOutput())
    outcome = caught.value.outcome
    assert outcome is not None
    assert outcome.reason is FailureReason.JOB_CREATE
    assert "exceeded quota: none" in outcome.message
    assert "swordfish" not in str(caught.value)


async def test_fifty_tasks_cost_two_watches_and_two_requests_each(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async def live(name: str) -> TaskResult:
        execution = await backend.launch(task(name), NoOutput())
        outcome = await execution.wait()
        await execution.release(outcome)
        return outcome.result

    async with (
        kubelet(behaviours.always(behaviours.succeed(after=0.5))),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        results = await asyncio.gather(*(live(f"task-{n}") for n in range(50)))
        assert results == [TaskResult.SUCCEEDED] * 50
        entries = api_tier.audit(user="worker", namespace=namespace)
    asked = [entry for entry in entries if "resourceVersion=0" not in entry.request_uri]
    watches = [entry for entry in asked if entry.verb == "watch"]
    others = [entry.verb for entry in asked if entry.verb != "watch"]
    assert {verb: others.count(verb) for verb in others} == {"create": 50, "delete": 50, "list": 2}
    # A busy API server ends watches whose events it could not hand over in time, and they are
    # resumed: what matters is that one of each kind is open, and that their number is not the tasks'.
    standing = sorted(entry.resource for entry in watches if entry.stage == "ResponseStarted")
    assert standing == ["jobs", "pods"]
    assert len(watches) < 10
    assert {entry.user_agent.split("/")[0] for entry in entries} == {"oz-agent-worker"}


async def test_an_api_server_that_restarts_in_mid_task_fails_no_task(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async def live(name: str) -> Outcome:
        execution = await backend.launch(task(name), NoOutput())
        outcome = await execution.wait()
        await execution.release(outcome)
        return outcome

    async def run_until_it_is_back(run: PodRun) -> None:
        await run.run()
        running.add(run.name)
        await is_back.wait()
        await run.finish(0)

    running: set[str] = set()
    is_back = asyncio.Event()
    async with (
        kubelet(behaviours.always(run_until_it_is_back)),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        lives = [asyncio.create_task(live(f"task-{n}")) for n in range(10)]
        # The Job controller makes a second Pod where it gets no answer to the creation of the first.
        await eventually(lambda: len(running) == 10)
        await asyncio.to_thread(api_tier.stop_apiserver)
        await asyncio.to_thread(api_tier.start_apiserver)
        is_back.set()
        outcomes = await asyncio.gather(*lives)
        assert [outcome for outcome in outcomes if outcome.result is not TaskResult.SUCCEEDED] == []
        assert backend.stats.watches["jobs"] >= 2
    assert jobs_in(api_tier.client(), namespace) == []


async def _until_it_listens(port: int) -> None:
    async with asyncio.timeout(HANG_TIMEOUT):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@pytest.mark.parametrize("preflight", [None, PATIENT_PREFLIGHT], ids=["no preflight", "preflight"])
async def test_a_worker_starts_as_soon_as_an_api_server_listens(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, preflight: PreflightSettings | None
) -> None:
    """It answers 403 to everybody until it has read its roles, which takes a second or two."""
    watch = dataclasses.replace(QUICK.watch, refusal_patience=HANG_TIMEOUT)
    preflight = dataclasses.replace(preflight, refusal_patience=HANG_TIMEOUT) if preflight else None
    settings = dataclasses.replace(QUICK, patience=HANG_TIMEOUT, preflight=preflight, watch=watch)
    async with kubelet(behaviours.always(behaviours.succeed())):
        await asyncio.to_thread(api_tier.stop_apiserver)
        api_tier.apiserver.start()
        await _until_it_listens(api_tier.layout.apiserver_port)
        async with running_backend(api_tier.kubeconfig("worker"), namespace, settings=settings) as backend:
            execution = await backend.launch(task("first"), NoOutput())
            assert (await execution.wait()).result is TaskResult.SUCCEEDED


async def test_a_worker_that_leaves_lets_its_jobs_be(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with kubelet(behaviours.always(behaviours.runs_until_cancelled())):
        async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
            execution = await backend.launch(task("stays"), NoOutput())
            waiting = asyncio.create_task(execution.wait())
            await asyncio.sleep(0)
            waiting.cancel()
        assert len(jobs_in(api_tier.client(), namespace)) == 1
