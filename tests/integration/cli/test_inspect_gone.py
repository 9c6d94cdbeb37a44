"""Explanations of tasks whose Pods or Jobs are gone, from the events on a real API server."""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours
from tests.cluster.kubelet.pod_run import PodRun, Script
from tests.integration.worker.backends.harness import eventually
from tests.integration.worker.backends.kubernetes.driven_worker import driven_worker, key
from tests.integration.worker.backends.kubernetes.test_evidence import kept
from tests.integration.worker.backends.kubernetes.worker import running_backend, task

from .inspecting import Command, unpacked

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

TASK_ID = "oz.warp.dev/task-id"


def disrupted(condition: str, *events: tuple[str, str, str, str]) -> Script:
    """Run until somebody ends the Pod; ``events`` about it are reason, message, type, component."""

    async def script(run: PodRun) -> None:
        await run.run()
        for reason, message, kind, component in events:
            await run.event(reason, message, kind=kind, component=component)
        await run.disrupt(condition, "it has to go")
        await asyncio.Event().wait()

    return script


PREEMPTED = disrupted(
    "PreemptionByScheduler",
    ("Preempted", "Preempted by pod 1f2e on node node-a", "Normal", "default-scheduler"),
)
TAINTED = disrupted(
    "DeletionByTaintManager",
    ("TaintManagerEviction", "Marking for deletion Pod ns/p", "Normal", "taint-eviction-controller"),
)
DRAINED = disrupted("EvictionByEvictionAPI")


async def rows(command: Command) -> dict[str, Any]:
    """The tasks that exist, by their IDs."""
    return {row["task_id"]: row for row in json.loads((await command("tasks", "-o", "json")).stdout)}


async def without_pods(command: Command, *names: str) -> None:
    """Wait until these tasks have failed, and none of their Pods is left."""

    async def gone() -> bool:
        found = await rows(command)
        return all(found[name]["state"] == "failed" and not found[name]["pod"] for name in names)

    await eventually(gone)


async def test_whoever_is_asked_after_a_disruption_says_the_same(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command
) -> None:
    scripts = {"preempted": PREEMPTED, "tainted": TAINTED, "drained": DRAINED}
    kubeconfig = api_tier.kubeconfig("worker")
    expected = {"preempted": FailureReason.POD_PREEMPTED, "tainted": FailureReason.EVICTED}
    async with kubelet(behaviours.by_annotation(TASK_ID, scripts, behaviours.succeed())):
        async with driven_worker(kubeconfig, namespace) as first:
            for name in scripts:
                first.assign(name)
            for name in scripts:
                assert await first.ended(name) is TaskResult.FAILED
            assert {name: dict(first.reports)[key(name)].reason for name in expected} == expected
            await without_pods(command, *scripts)
        async with driven_worker(kubeconfig, namespace) as second:
            for name in scripts:
                await second.ended(name)
            again = dict(second.reports)
        listed = await rows(command)
        explained = {
            name: json.loads((await command("explain", name, "-o", "json")).stdout) for name in scripts
        }
    for name, reason in expected.items():
        assert again[key(name)].reason is reason
        assert (listed[name]["reason"], explained[name]["reason"]) == (reason.value, reason.value)
    assert "(Preempted: Preempted by pod 1f2e on node node-a)" in explained["preempted"]["headline"]
    assert any(
        "Preempted by default-scheduler" in item["text"] for item in explained["preempted"]["evidence"]
    )
    # An eviction through the API leaves no event: the reason is unknown, and the message says so.
    assert again[key("drained")].reason is FailureReason.POD_MISSING
    assert (listed["drained"]["reason"], explained["drained"]["reason"]) == ("pod_missing", "pod_missing")
    assert "deleted, drained, or lost with its node" in explained["drained"]["headline"]


async def test_a_job_that_its_worker_deleted_is_explained_by_its_pods_events(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command, tmp_path: Path
) -> None:
    """With IDs as control planes make them: of such a Job the Pods' names hold a part."""
    run, other = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
    scripts = {run: behaviours.image_pull_back_off("not found")}
    async with (
        kubelet(behaviours.by_annotation(TASK_ID, scripts, behaviours.succeed())),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        for name in (run, other):
            execution = await backend.launch(task(name), NoOutput())
            await execution.release(await execution.wait())

        async def both_gone() -> bool:
            return await rows(command) == {}

        await eventually(both_gone)
        text = await command("explain", run)
        data = json.loads((await command("explain", f"{run}-1", "-o", "json")).stdout)
        well = await command("explain", other)
        file = tmp_path / "gone.tar.gz"
        collected = await command("collect", run, "-f", str(file))
    headline, *lines = text.stdout.splitlines()
    assert text.returncode == 0
    assert headline.startswith(
        f"Task {run} has no Job any more: it was deleted before it had ended, after a warning (Failed: "
    )
    assert headline.endswith("not found).")
    assert not any(other in line for line in lines)
    assert any("event of Job" in line and "SuccessfulCreate" in line for line in lines)
    assert (data["state"], data["task_id"]) == ("gone", run)
    assert well.stdout.startswith(f"Task {other} succeeded, and its Job was deleted")
    assert collected.returncode == 0, collected.stderr
    files = {name.split("/")[1]: content for name, content in unpacked(file.read_bytes()).items()}
    assert list(files) == ["events.json", "explanation.json", "explanation.txt"]
    assert b"Failed to pull image" in files["events.json"]
    assert files["explanation.txt"].decode().startswith(headline)


async def test_a_pods_name_means_its_task(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command
) -> None:
    run = str(uuid.UUID(int=3))
    async with (
        kubelet(behaviours.always(behaviours.runs_until_cancelled())),
        running_backend(api_tier.kubeconfig("worker"), namespace) as backend,
    ):
        await backend.launch(task(run), NoOutput())

        async def has_a_pod() -> bool:
            return bool((await rows(command))[run]["pod"])

        await eventually(has_a_pod)
        done = await command("explain", (await rows(command))[run]["pod"])
    assert done.stdout.startswith(f"Task {run} ")


@pytest.mark.parametrize("name", ["explain", "collect"])
@pytest.mark.parametrize("text", ["", " "])
async def test_an_empty_name_means_nothing(
    api_tier: ApiTier, namespace: str, command: Command, name: str, text: str
) -> None:
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        await backend.launch(task("unrelated"), NoOutput())
        done = await command(name, text)
    assert (done.returncode, done.stdout) == (2, "")
    assert "TASK is empty" in done.stderr
    assert "unrelated" not in done.stderr


async def test_a_job_of_another_worker_is_not_gone(
    api_tier: ApiTier, namespace: str, command: Command
) -> None:
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        await backend.launch(task("elsewhere"), NoOutput())

        async def explained() -> bool:
            path = f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind=Job"
            answer: Any = api_tier.client().get(path)
            return bool(answer["items"])

        await eventually(explained)
        done = await command("explain", "elsewhere", "--worker-id", "worker-b")
    assert done.returncode == 1
    assert "--all-workers" in done.stderr


async def test_a_list_says_what_a_pod_waits_for_that_gets_no_sandbox(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command
) -> None:
    scripts = {"stuck": behaviours.stuck(), "mount": behaviours.failed_mount('secret "x" not found')}
    healthy = behaviours.runs_until_cancelled()
    async with (
        kubelet(behaviours.by_annotation(TASK_ID, scripts, healthy)),
        running_backend(api_tier.kubeconfig("worker"), namespace, pull_grace=60.0) as backend,
    ):
        for name in ("stuck", "mount", "healthy"):
            await backend.launch(task(name), NoOutput())

        async def explained() -> bool:
            found = {name: row["reason"] for name, row in (await rows(command)).items()}
            return found == {"stuck": "container_create", "mount": "volume_mount", "healthy": ""}

        await eventually(explained)


async def test_a_job_that_is_reported_again_has_one_bundle(
    api_tier: ApiTier,
    namespace: str,
    kubelet: KubeletFactory,
    command: Command,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kubeconfig = api_tier.kubeconfig("worker")
    with caplog.at_level(logging.INFO):
        async with kubelet(behaviours.always(PREEMPTED)):
            async with driven_worker(kubeconfig, namespace, evidence_dir=str(tmp_path)) as first:
                first.assign("run")
                assert await first.ended("run") is TaskResult.FAILED
            await without_pods(command, "run")
            async with driven_worker(kubeconfig, namespace, evidence_dir=str(tmp_path)) as second:
                assert await second.ended("run") is TaskResult.FAILED
    assert sum("is kept in" in record.getMessage() for record in caplog.records) == 1
    assert json.loads(kept(tmp_path)["outcome.json"])["reason"] == "pod_preempted"
