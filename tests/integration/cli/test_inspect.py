"""``tasks``, ``explain`` and ``collect`` as an operator types them, on a real API server."""

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours
from tests.integration.worker.backends.harness import eventually
from tests.integration.worker.backends.kubernetes.worker import running_backend, task

from .inspecting import Command, unpacked

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

TASK_ID = "oz.warp.dev/task-id"

SETTLED = {
    "runs": ("running", "-"),
    "fails": ("failed", "container_oom"),
    "waits": ("pending", "unschedulable"),
    "pulls": ("pending", "image_pull"),
}


async def test_the_tasks_of_a_namespace_are_listed_with_their_states(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command
) -> None:
    scripts = {
        "runs": behaviours.runs_until_cancelled(),
        "fails": behaviours.oom_killed(),
        "pulls": behaviours.image_pull_back_off("connection refused"),
        "waits": behaviours.unschedulable(),
    }
    kubeconfig = api_tier.kubeconfig("worker")
    async with (
        kubelet(behaviours.by_annotation(TASK_ID, scripts, behaviours.succeed())) as node,
        running_backend(kubeconfig, namespace) as one,
        running_backend(kubeconfig, namespace, worker_id="worker-b") as two,
    ):
        for name in ("runs", "fails", "waits"):
            await one.launch(task(name), NoOutput())
        await two.launch(task("pulls"), NoOutput())
        await _until_settled(command)
        listed = (await command("tasks")).stdout
        mine = json.loads((await command("tasks", "--worker-id", "worker-a", "-o", "json")).stdout)
        failed = json.loads((await command("tasks", "--state", "failed", "-o", "json")).stdout)
        unknown_worker = await command("tasks", "--worker-id", "nobody")
    header, *lines = [line.split() for line in listed.splitlines()]
    assert header == ["TASK", "STATE", "REASON", "AGE", "POD", "NODE", "WORKER"]
    rows = {line[0]: line for line in lines}
    assert {name: (row[1], row[2]) for name, row in rows.items()} == SETTLED
    assert rows["runs"][5:] == [node.name, "worker-a"]
    assert rows["pulls"][6] == "worker-b"
    assert {row["task_id"] for row in mine} == {"runs", "fails", "waits"}
    assert [row["task_id"] for row in failed] == ["fails"]
    assert (unknown_worker.returncode, unknown_worker.stdout) == (0, "")
    assert "no tasks found in namespace" in unknown_worker.stderr


async def _until_settled(command: Command) -> None:
    """Wait for states too: the failed task is ``ending``, with its reason, until its Job has failed."""

    async def settled() -> bool:
        rows = json.loads((await command("tasks", "-o", "json")).stdout)
        return {row["task_id"]: (row["state"], row["reason"] or "-") for row in rows} == SETTLED

    await eventually(settled)


async def test_a_task_that_waits_for_a_node_is_explained_with_the_clusters_message(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command
) -> None:
    async def script(run: Any) -> None:
        await run.unschedulable("0/3 nodes are available: 3 Insufficient cpu.")
        message = "pod triggered scale-up: [{group-a 1->2 (max: 5)}]"
        await run.event("TriggeredScaleUp", message, kind="Normal", component="cluster-autoscaler")
        await asyncio.Event().wait()

    async with (
        kubelet(behaviours.always(script)),
        running_backend(api_tier.kubeconfig("worker"), namespace, unschedulable_timeout=60.0) as backend,
    ):
        await backend.launch(task("waits-for-a-node"), NoOutput())

        async def explained() -> bool:
            done = await command("explain", "waits")
            return "TriggeredScaleUp" in done.stdout

        await eventually(explained)
        text = (await command("explain", "waits-for-a-node-1")).stdout
        data = json.loads((await command("explain", "WAITS-for-a-node", "-o", "json")).stdout)
    headline, *rest = text.splitlines()
    assert headline.startswith(
        "Task waits-for-a-node waits: no node takes its Pod (0/3 nodes are available: 3 Insufficient cpu),"
        " and the autoscaler adds one (TriggeredScaleUp: pod triggered scale-up"
    )
    assert any("event of Pod" in line and "by cluster-autoscaler" in line for line in rest)
    assert any("FailedScheduling by default-scheduler" in line for line in rest)
    assert (data["state"], data["reason"]) == ("pending", "unschedulable")
    assert "swordfish" not in text


async def test_a_failed_task_is_explained_after_its_end_and_its_evidence_collected(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, command: Command, tmp_path: Path
) -> None:
    script = behaviours.exit_with(3, output="the token is swordfish\nno such thing\n")
    async with kubelet(behaviours.always(script)):
        async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
            execution = await backend.launch(task("fails"), NoOutput())
            assert (await execution.wait()).result is TaskResult.FAILED
        text = (await command("explain", "fails")).stdout
        file = tmp_path / "evidence.tar.gz"
        done = await command("collect", "fails", "-f", str(file))
    assert text.startswith("Task fails failed")
    assert "(container_exit): Container `task` ended with exit code 3" in text
    assert done.stdout.startswith(f"{file} (")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    files = unpacked(file.read_bytes())
    folder = next(iter(files)).split("/")[0]
    names = [name.removeprefix(f"{folder}/") for name in files]
    (pod,) = [name.split("/")[1].removesuffix(".json") for name in names if name.startswith("pods/")]
    assert names == [
        "events.json",
        "explanation.json",
        "explanation.txt",
        "job.json",
        f"logs/{pod}/task.log",
        f"pods/{pod}.json",
    ]
    assert files[f"{folder}/logs/{pod}/task.log"].endswith(
        b" the token is ***\n" + log_tail(files, folder, pod)
    )
    assert files[f"{folder}/explanation.txt"].startswith(b"Task fails failed")
    assert "swordfish" not in b"".join(files.values()).decode()
    job = json.loads(files[f"{folder}/job.json"])
    assert job["metadata"]["annotations"][TASK_ID] == "fails"
    env = {e["name"]: e["value"] for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (env["TOKEN"], env["OZ_RUN_ID"]) == ("***", "fails")


def log_tail(files: dict[str, bytes], folder: str, pod: str) -> bytes:
    """The last line of the log, with its timestamp."""
    return files[f"{folder}/logs/{pod}/task.log"].splitlines(keepends=True)[-1]


async def test_a_job_without_a_pod_is_explained_with_what_refuses_it(
    api_tier: ApiTier, namespace: str, command: Command
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    api_tier.client().create(f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    async with running_backend(
        api_tier.kubeconfig("worker"), namespace, unschedulable_timeout=60.0
    ) as backend:
        await backend.launch(task("crowded-out"), NoOutput())

        async def explained() -> bool:
            return "exceeded quota: none" in (await command("explain", "crowded")).stdout

        await eventually(explained)
        text = (await command("explain", "crowded")).stdout
    assert text.startswith(
        "Task crowded-out waits: the Job has no Pod, because there is no room for it in the"
    )


async def test_a_task_without_a_job_is_an_error_that_says_why_that_may_be(command: Command) -> None:
    done = await command("explain", "nothing-like-it")
    assert done.returncode == 1
    assert "no Job of a task 'nothing-like-it' is in namespace" in done.stderr
    assert "one that succeeded is deleted when its result is delivered" in done.stderr


async def test_the_beginning_of_two_tasks_names_both(
    api_tier: ApiTier, namespace: str, command: Command
) -> None:
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        for name in ("same-a", "same-b"):
            await backend.launch(task(name), NoOutput())
        done = await command("explain", "same")
    assert done.returncode == 2
    assert "same-a" in done.stderr
    assert "same-b" in done.stderr


async def test_a_config_file_says_where_and_whose(
    api_tier: ApiTier, namespace: str, command: Command, tmp_path: Path
) -> None:
    config = tmp_path / "worker.yaml"
    section = {"namespace": namespace, "kubeconfig": str(api_tier.kubeconfig("worker"))}
    config.write_text(json.dumps({"worker_id": "worker-b", "backend": {"kubernetes": section}}))
    async with running_backend(api_tier.kubeconfig("worker"), namespace) as backend:
        await backend.launch(task("elsewhere"), NoOutput())
        mine = await command("tasks", "--config-file", str(config), "-o", "json")
        everybodys = await command("--config-file", str(config), "tasks", "-A", "-o", "json")
        missing = await command("explain", "elsewhere", "--config-file", str(config))
    assert json.loads(mine.stdout) == []
    assert [row["task_id"] for row in json.loads(everybodys.stdout)] == ["elsewhere"]
    assert "--all-workers" in missing.stderr


async def test_a_namespace_that_may_not_be_read_names_the_permissions(
    api_tier: ApiTier, command: Command
) -> None:
    done = await command("tasks", "-n", "kube-system")
    assert done.returncode == 1
    assert "may not read tasks in namespace 'kube-system'" in done.stderr
    assert "pods/log: get" in done.stderr
