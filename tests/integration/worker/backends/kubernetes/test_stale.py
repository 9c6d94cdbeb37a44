"""What is not of the present: lists of the past, a Job controller that is behind, clocks that are off."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .api_server import ApiServer, Fault
from .worker import QUICK, running_backend, task

JOB = job_name(ExecutionKey("run", "run-1"))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


def answers(body: Any) -> Fault:
    """Answer with a body, and 200."""

    async def fault(request: web.Request, handler: Any) -> web.StreamResponse:
        return web.json_response(body)

    return fault


def quick(stale_patience: float) -> Any:
    watch = dataclasses.replace(QUICK.watch, stale_patience=stale_patience)
    return dataclasses.replace(QUICK, watch=watch, check_every=30.0)


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"resourceVersion": "50"}, "items": None},
        {"metadata": {}, "items": []},
        {},
        "<html>Service unavailable</html>",
    ],
    ids=["of the past", "without a version", "of something else", "a page"],
)
async def test_a_list_that_cannot_be_of_the_present_ends_no_task(
    server: ApiServer, tmp_path: Path, body: Any
) -> None:
    async with running_backend(server.kubeconfig(tmp_path), "ns", settings=quick(60.0)) as backend:
        execution = await backend.launch(task("run"), NoOutput())
        wait = asyncio.create_task(execution.wait())
        await eventually(lambda: backend.stats.watches["jobs"] == 1)
        lists = server.asked("list", "jobs")
        server.faults["list", "jobs"].extend([answers(body)] * 3)
        await server.compact()
        await eventually(lambda: server.asked("list", "jobs") == lists + 4)
        assert not wait.done()
        await server.finish(JOB)
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await wait).result is TaskResult.SUCCEEDED


async def test_a_history_that_went_back_for_good_is_believed_in_the_end(
    server: ApiServer, tmp_path: Path
) -> None:
    restored = {"metadata": {"resourceVersion": "50"}, "items": None}
    async with running_backend(server.kubeconfig(tmp_path), "ns", settings=quick(0.5)) as backend:
        execution = await backend.launch(task("run"), NoOutput())
        await eventually(lambda: backend.stats.watches["jobs"] == 1)
        server.faults["list", "jobs"].extend([answers(restored)] * 500)
        await server.compact()
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await execution.wait()
        assert outcome.reason is FailureReason.JOB_FAILED
        assert "deleted by somebody else" in outcome.message


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
async def test_a_job_controller_that_is_behind_fails_no_task(
    server: ApiServer, tmp_path: Path, phase: str
) -> None:
    """The API server died when it had created the Pod; the controller's watches pause after its restart."""
    cluster_message = 'Error creating: Post "https://10.0.0.1:443/api/v1/namespaces/ns/pods": unexpected EOF'
    impatient = ObservationPolicy(ask_after=0.05, ask_patience=0.1, refusal_grace=0.1)
    settings = dataclasses.replace(QUICK, observation=impatient)
    async with running_backend(server.kubeconfig(tmp_path), "ns", settings=settings) as backend:
        execution = await backend.launch(task("run"), NoOutput())
        wait = asyncio.create_task(execution.wait())
        about = {"kind": "Job", "name": JOB, "uid": execution.uid}
        await server.put(
            "events",
            "e",
            type="Warning",
            reason="FailedCreate",
            message=cluster_message,
            involvedObject=about,
        )
        await server.put("jobs", JOB, status={"startTime": "2026-01-01T12:00:00Z"})
        labels = {"job-name": JOB, "batch.kubernetes.io/controller-uid": execution.uid}
        await asyncio.sleep(0.5)
        await server.put("pods", "pod", metadata={"labels": labels}, status={"phase": phase})
        done, _ = await asyncio.wait({wait}, timeout=1.0)
        assert not done, wait.result()
        await server.finish(JOB)
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await wait).result is TaskResult.SUCCEEDED


def a_pod(clock: Callable[[], datetime], uid: str) -> dict[str, Any]:
    now = clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "lastTransitionTime": now,
    }
    labels = {"job-name": JOB, "batch.kubernetes.io/controller-uid": uid}
    return {
        "metadata": {"labels": labels, "creationTimestamp": now},
        "status": {"phase": "Pending", "conditions": [unscheduled]},
    }


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_clock_that_is_off_uses_up_no_grace(server: ApiServer, tmp_path: Path, minutes: int) -> None:
    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    kubeconfig = server.kubeconfig(tmp_path)
    async with running_backend(kubeconfig, "ns", unschedulable_timeout=60.0) as backend:
        execution = await backend.launch(task("run"), NoOutput())
        wait = asyncio.create_task(execution.wait())
        started = {"startTime": clock().strftime("%Y-%m-%dT%H:%M:%SZ"), "active": 1}
        await server.put("jobs", JOB, status=started)
        await server.put("pods", "pod", **a_pod(clock, execution.uid))
        done, _ = await asyncio.wait({wait}, timeout=1.5)
        assert not done
        await server.finish(JOB)
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await wait).result is TaskResult.SUCCEEDED
