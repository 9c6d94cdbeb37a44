"""Ends that a Job does not say, or says wrongly: on a real API server and Job controller.

The kubelet is played. A container that runs on beside the task, a finalizer that stays, a Job
controller that stands still, and a second Pod (field faults K6, K9, K10 and K13).
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.inspection.explain import Explanation, explain
from oz_agent_worker.worker.backends.kubernetes.inspection.inspector import Inspector
from oz_agent_worker.worker.backends.kubernetes.inspection.task_state import State
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import STRATEGIC_PATCH, AsyncRestClient
from tests.cluster.errors import ApiError
from tests.cluster.kubelet import Kubelet, behaviours
from tests.cluster.kubelet.pod_run import PodRun, Script
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .worker import QUICK, Output, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

PROXY: Final = {"containers": [{"name": "task"}, {"name": "proxy", "image": "proxy"}]}
SOON: Final = ObservationPolicy(teardown_grace=0.3, announced_grace=0.3, controller_timeout=0.3)
#: Graces that no test waits for: what decides is something else.
NEVER: Final = ObservationPolicy(teardown_grace=1e6, announced_grace=1e6, controller_timeout=1e6)


def with_graces(policy: ObservationPolicy) -> Any:
    """Settings of a backend with these graces."""
    return dataclasses.replace(QUICK, observation=policy)


async def jobs_in(api: AsyncRestClient, namespace: str) -> list[Any]:
    return list((await api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs"))["items"])


async def pods_in(api: AsyncRestClient, namespace: str) -> list[Any]:
    return list((await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"])


async def run(backend: KubernetesBackend, output: Output | None = None) -> Outcome:
    """Run a task to its end, and clean up after it."""
    execution = await backend.launch(task("t"), output or NoOutput())
    async with asyncio.timeout(HANG_TIMEOUT):
        outcome = await execution.wait()
    await execution.release(outcome)
    return outcome


async def explained(api_tier: ApiTier, namespace: str) -> tuple[Explanation, State]:
    """What ``explain`` says of the task, and its state in ``tasks``."""
    credentials = load_credentials(str(api_tier.kubeconfig("worker")), environ={})
    client = KubernetesClient(credentials, settings=QUICK.client)
    await client.open()
    try:
        inspector = Inspector(client, namespace, worker_id="worker-a", policy=ObservationPolicy())
        (job,) = await inspector.find("t")
        (row,) = await inspector.tasks()
        return explain(await inspector.snapshot(job)), row.state
    finally:
        await client.close()


# K10: what runs beside the task


@pytest.mark.parametrize(("code", "result"), [(0, TaskResult.SUCCEEDED), (3, TaskResult.FAILED)])
async def test_k10_a_container_that_runs_on_beside_the_task(
    api_tier: ApiTier,
    api: AsyncRestClient,
    namespace: str,
    kubelet: KubeletFactory,
    code: int,
    result: TaskResult,
) -> None:
    output = Output()
    async with (
        kubelet(behaviours.always(behaviours.beside(code, output="done\n"))) as node,
        running_backend(
            api_tier.kubeconfig("worker"),
            namespace,
            settings=with_graces(SOON),
            pod_template={**PROXY, "terminationGracePeriodSeconds": 1},  # the proxy uses it up
        ) as backend,
    ):
        outcome = await run(backend, output)
        assert (outcome.result, outcome.exit_code) == (result, code or None)
        assert output.received == b"done\n"
        assert await jobs_in(api, namespace) == []  # so that the proxy does not run on
        await eventually(lambda: _is_empty(api, namespace))
        assert len(node.started) == 1


async def _is_empty(api: AsyncRestClient, namespace: str) -> bool:
    return await pods_in(api, namespace) == []


@pytest.mark.parametrize("code", [0, 5])
@pytest.mark.parametrize("retries", [0, 2])
async def test_k10_the_code_of_a_container_beside_the_task_is_not_the_tasks(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, code: int, retries: int
) -> None:
    """The Job fails with the proxy's 143, as where a mesh's sidecar is ended from outside."""
    async with (
        kubelet(behaviours.always(behaviours.beside(code, 143))) as node,
        running_backend(
            api_tier.kubeconfig("worker"),
            namespace,
            settings=with_graces(NEVER),
            pod_template=PROXY,
            retry_on_disruption=retries,
        ) as backend,
    ):
        outcome = await run(backend)
        expected = (None, None) if code == 0 else (FailureReason.CONTAINER_EXIT, code)
        assert (outcome.reason, outcome.exit_code) == expected
        assert len(node.started) == 1


async def test_k10_a_container_beside_the_task_that_fails_first_does_not_decide(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async def script(run: PodRun) -> None:
        await run.run()
        await run.end("proxy", 1)
        await asyncio.sleep(0.5)
        await run.end("task", 0)

    async with (
        kubelet(behaviours.always(script)),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=with_graces(NEVER), pod_template=PROXY
        ) as backend,
    ):
        assert (await run(backend)).result is TaskResult.SUCCEEDED


async def test_k10_people_are_told_what_the_job_waits_for(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.beside(0))),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=with_graces(NEVER), pod_template=PROXY
        ) as backend,
    ):
        await backend.launch(task("t"), NoOutput())

        async def is_ending() -> bool:
            return (await explained(api_tier, namespace))[1] is State.ENDING

        await eventually(is_ending)
        answer, _ = await explained(api_tier, namespace)
        assert "has succeeded, and its Job has not ended" in answer.headline
        assert "`proxy` still runs" in answer.headline


# K6: what keeps the Job from ending


@asynccontextmanager
async def kept_finalizers(api: AsyncRestClient, namespace: str, pod: str) -> AsyncIterator[None]:
    """Admission refuses that a finalizer of a Pod is removed; its status may be written."""
    group, name = "/apis/admissionregistration.k8s.io/v1", f"keeps-{namespace}"
    policies, bindings = f"{group}/validatingadmissionpolicies", f"{group}/validatingadmissionpolicybindings"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    kept = "!has(oldObject.metadata.finalizers) || has(object.metadata.finalizers)"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": kept, "message": "finalizers stay"}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}

    async def refuses() -> bool:
        change = {"metadata": {"finalizers": None}}
        try:
            await api.request("PATCH", f"{pod}?dryRun=All", change, STRATEGIC_PATCH)
        except ApiError as error:
            return "finalizers stay" in error.body
        return False

    await api.create(policies, {"metadata": {"name": name}, "spec": spec})
    await api.create(bindings, {"metadata": {"name": name}, "spec": binding})
    try:
        await eventually(refuses)
        yield
    finally:
        await api.delete(f"{bindings}/{name}")
        await api.delete(f"{policies}/{name}")


class Gate:
    """A behaviour: the container runs until the test opens the gate, and ends with a code."""

    def __init__(self, code: int) -> None:
        self.opened = asyncio.Event()
        self._code = code

    def __call__(self, pod: Any) -> Script:
        async def script(run: PodRun) -> None:
            await run.run()
            await self.opened.wait()
            await run.finish(self._code)

        return script


@pytest.mark.parametrize(("code", "result"), [(0, TaskResult.SUCCEEDED), (3, TaskResult.FAILED)])
async def test_k6_a_finalizer_that_stays(
    api_tier: ApiTier,
    api: AsyncRestClient,
    namespace: str,
    kubelet: KubeletFactory,
    code: int,
    result: TaskResult,
) -> None:
    gate = Gate(code)
    async with (
        kubelet(gate) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=with_graces(SOON)) as backend,
    ):
        execution = await backend.launch(task("t"), NoOutput())
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        pod = f"/api/v1/namespaces/{namespace}/pods/{node.started[0]['metadata']['name']}"
        async with kept_finalizers(api, namespace, pod), asyncio.timeout(HANG_TIMEOUT):
            gate.opened.set()
            outcome = await execution.wait()
            assert (outcome.result, outcome.exit_code) == (result, code or None)
            (job,) = await jobs_in(api, namespace)
            final = {"Complete", "Failed"} & {c["type"] for c in job["status"].get("conditions", ())}
            assert final == set(), "the Job has not ended"
            answer, state = await explained(api_tier, namespace)
            assert (answer.state, state) == (State.ENDING, State.ENDING)
            assert "runs for" not in answer.headline
        await execution.release(outcome)


@pytest.mark.parametrize(("code", "result"), [(0, TaskResult.SUCCEEDED), (3, TaskResult.FAILED)])
async def test_k6_a_job_controller_that_stands_still(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, code: int, result: TaskResult
) -> None:
    gate = Gate(code)
    async with (
        kubelet(gate) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=with_graces(SOON)) as backend,
    ):
        execution = await backend.launch(task("t"), NoOutput())
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        api_tier.controller_manager.pause()
        try:
            async with asyncio.timeout(HANG_TIMEOUT):
                gate.opened.set()
                outcome = await execution.wait()
            answer, _ = await explained(api_tier, namespace)
        finally:
            api_tier.controller_manager.resume()
        assert (outcome.result, outcome.exit_code) == (result, code or None)
        assert "the Job controller has not taken note" in answer.headline
        await execution.release(outcome)


# K9: a Pod too many


@pytest.mark.parametrize("cleanup", [True, False])
async def test_k9_a_pod_that_is_removed_behind_the_job_controllers_back(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory, cleanup: bool
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.runs_until_cancelled())) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, cleanup=cleanup) as backend,
    ):
        execution = await backend.launch(task("t"), NoOutput())
        waiting = asyncio.create_task(execution.wait())
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        pod = f"/api/v1/namespaces/{namespace}/pods/{node.started[0]['metadata']['name']}"
        await api.request("PATCH", pod, {"metadata": {"finalizers": None}}, STRATEGIC_PATCH)
        await api.delete(pod, gracePeriodSeconds=0)
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await waiting
        assert outcome.reason is FailureReason.POD_REPLACED
        assert "the Job controller made another Pod".lower() in outcome.message.lower()
        assert await jobs_in(api, namespace) == []
        await eventually(lambda: _is_empty(api, namespace))
        await execution.release(outcome)


async def test_k9_where_the_operator_allows_it_the_second_pod_does_the_work(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    scripts = iter([behaviours.runs_until_cancelled(), behaviours.succeed(after=0.1)])
    async with (
        kubelet(lambda pod: next(scripts)) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, retry_on_disruption=1) as backend,
    ):
        execution = await backend.launch(task("t"), NoOutput())
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        pod = f"/api/v1/namespaces/{namespace}/pods/{node.started[0]['metadata']['name']}"
        await api.request("PATCH", pod, {"metadata": {"finalizers": None}}, STRATEGIC_PATCH)
        await api.delete(pod, gracePeriodSeconds=0)
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await execution.wait()
        assert outcome.result is TaskResult.SUCCEEDED
        await execution.release(outcome)


async def test_k9_a_pod_that_the_job_controller_takes_away_again_fails_nothing(
    api_tier: ApiTier, api: AsyncRestClient, namespace: str, kubelet: KubeletFactory
) -> None:
    """As where the API server dies before it answers the creation of the first."""
    gate = Gate(0)

    def behaviour(pod: Any) -> Script:
        return gate(pod) if pod["metadata"]["name"] != "second" else behaviours.stuck()

    async with (
        kubelet(behaviour) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        execution = await backend.launch(task("t"), NoOutput())
        waiting = asyncio.create_task(execution.wait())
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        (first,) = await pods_in(api, namespace)
        kept = ("labels", "annotations", "ownerReferences", "finalizers")
        metadata = {"name": "second", **{key: first["metadata"][key] for key in kept}}
        spec = {key: value for key, value in first["spec"].items() if key != "nodeName"}
        await api.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": spec})

        async def is_taken_away() -> bool:
            return [p["metadata"]["name"] for p in await pods_in(api, namespace)] == [
                first["metadata"]["name"]
            ]

        await eventually(is_taken_away)
        assert not waiting.done()
        gate.opened.set()
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await waiting
        assert outcome.result is TaskResult.SUCCEEDED
        await execution.release(outcome)


# K13: whole seconds


async def test_k13_with_a_ttl_of_0_the_containers_own_end_is_reported(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    """The Job and its Pod are deleted in the second in which the container ends."""

    async def one(backend: KubernetesBackend, number: int) -> tuple[FailureReason | None, int | None]:
        execution = await backend.launch(task(f"t-{number}"), NoOutput())
        outcome = await execution.wait()
        await execution.release(outcome)
        return outcome.reason, outcome.exit_code

    async with (
        kubelet(behaviours.always(behaviours.exit_with(3, after=0.05))),
        running_backend(api_tier.kubeconfig("worker"), namespace, ttl_seconds_after_finished=0) as backend,
        asyncio.timeout(HANG_TIMEOUT),
    ):
        ends = await asyncio.gather(*(one(backend, number) for number in range(20)))
    assert set(ends) == {(FailureReason.CONTAINER_EXIT, 3)}
