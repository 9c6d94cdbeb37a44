"""A task's whole journey: control plane, worker, API server, agent, each a real process.

The kubelet is played; where a test says so, it runs the Pod's container for real.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, Script, behaviours, execute
from tests.conftest import KubeletFactory
from tests.timeouts import HANG_TIMEOUT

from .programs import BIN, ControlPlane, beside, control_plane, program, worker

pytestmark = pytest.mark.cluster

TERMINAL = {"SUCCEEDED", "FAILED", "ERROR", "CANCELLED"}
TASK_ID = "oz.warp.dev/task-id"


@pytest.fixture
def config_file(tmp_path: Path, api_tier: ApiTier, namespace: str) -> str:
    path = tmp_path / "worker.yaml"
    section = {"namespace": namespace, "kubeconfig": str(api_tier.kubeconfig("worker", namespace))}
    path.write_text(json.dumps({"backend": {"kubernetes": section}}))
    return str(path)


def jobs_left(api_tier: ApiTier, namespace: str) -> list[str]:
    listed = api_tier.client().get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return [item["metadata"]["name"] for item in listed["items"]]


async def until(holds: Callable[[], bool], what: str, timeout: float = HANG_TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, f"{what} did not come about in {timeout:.0f} s"
        await asyncio.sleep(0.2)


async def test_a_task_runs_and_its_output_and_result_come_back(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, config_file: str, tmp_path: Path
) -> None:
    prompt = (
        'echo "hello from $OZ_WORKER_BACKEND in $PWD"; echo "run $OZ_RUN_ID"; test -w . && touch proof && ls'
    )

    def journey(plane: ControlPlane) -> None:
        done = plane.oz("run", prompt, "--harness", "shell", "--follow", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        *_, ending = done.stdout.splitlines()
        run_id = ending.split()[1]
        assert ending == f"run {run_id} SUCCEEDED"
        assert "hello from kubernetes in" in done.stdout
        assert f"run {run_id}" in done.stdout.splitlines()
        assert "proof" in done.stdout
        assert plane.oz("logs", run_id).stdout == done.stdout.removesuffix(f"{ending}\n")

    async with (
        kubelet(behaviours.always(execute([BIN / "oz-agent"]))),
        beside(control_plane(tmp_path)) as plane,
        beside(worker(plane, "--config-file", config_file)),
    ):
        await asyncio.to_thread(journey, plane)
        await until(lambda: jobs_left(api_tier, namespace) == [], "the Job's deletion")


async def test_output_is_seen_while_the_task_still_runs(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, config_file: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    prompt = f"echo first light; while ! test -e {go}; do sleep 0.05; done; echo last light"

    def journey(plane: ControlPlane) -> None:
        run_id = json.loads(plane.oz("run", prompt, "--harness", "shell", "-o", "json").stdout)["run_id"]
        command = [str(BIN / "oz-agent-worker"), "logs", run_id, "--follow"]
        with program(command, plane.env()) as follower:
            follower.wait_for("first light")
            assert [run["state"] for run in plane.runs()] == ["INPROGRESS"]
            go.touch()
            follower.wait_for(f"run {run_id} SUCCEEDED")
        assert follower.lines.count("first light") == follower.lines.count("last light") == 1

    async with (
        kubelet(behaviours.always(execute([BIN / "oz-agent"]))),
        beside(control_plane(tmp_path)) as plane,
        beside(worker(plane, "--config-file", config_file)),
    ):
        await asyncio.to_thread(journey, plane)


async def test_a_failed_agent_is_reported_with_its_exit_code_and_its_job_stays(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, config_file: str, tmp_path: Path
) -> None:
    def journey(plane: ControlPlane) -> None:
        done = plane.oz("run", "echo about to fail; exit 42", "--follow", check=False)
        assert done.returncode == 1
        assert "about to fail" in done.stdout
        *_, ending = done.stdout.splitlines()
        assert " FAILED: " in ending
        assert "42" in ending

    async with (
        kubelet(behaviours.always(execute([BIN / "oz-agent"]))),
        beside(control_plane(tmp_path)) as plane,
        beside(worker(plane, "--config-file", config_file)),
    ):
        await asyncio.to_thread(journey, plane)
    assert len(jobs_left(api_tier, namespace)) == 1


SUCCEEDS, FAILS, OUT_OF_MEMORY, CANCELLED = range(4)


def kind_of(run_id: str) -> int:
    """What shall become of a run, from its random ID alone: the played node has nothing else to go by."""
    digit = int(run_id.replace("-", "")[-2:], 16) % 10
    return {0: FAILS, 1: FAILS, 2: OUT_OF_MEMORY, 3: CANCELLED}.get(digit, SUCCEEDS)


def by_kind() -> Callable[[dict[str, object]], Script]:
    scripts = {
        SUCCEEDS: behaviours.succeed(after=0.5),
        FAILS: behaviours.exit_with(7),
        OUT_OF_MEMORY: behaviours.oom_killed(),
        CANCELLED: behaviours.runs_until_cancelled(),
    }

    def choose(pod: dict[str, object]) -> Script:
        metadata = pod["metadata"]
        assert isinstance(metadata, dict)
        return scripts[kind_of(metadata["annotations"][TASK_ID])]

    return choose


async def test_two_hundred_tasks_at_once_all_end_as_they_should(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, config_file: str, tmp_path: Path
) -> None:
    count = 200
    flags = ("--config-file", config_file, "--max-concurrent-tasks", "50")
    since, terminated = len(api_tier.audit(user="worker")), terminated_watches(api_tier)
    async with kubelet(by_kind()) as node:
        async with beside(control_plane(tmp_path)) as plane, beside(worker(plane, *flags)) as running:
            ids = await submit(plane, count)
            doomed = {run_id for run_id in ids if kind_of(run_id) == CANCELLED}
            cancelling = asyncio.create_task(cancel_as_they_run(plane, doomed))
            await until(lambda: all(r["state"] in TERMINAL for r in plane.runs()), "the end of all runs", 200)
            await cancelling
            listed = await asyncio.to_thread(plane.runs)
            table = (await asyncio.to_thread(plane.oz, "runs", "--all")).stdout
            assert running.process.poll() is None
        started = Counter(pod["metadata"]["annotations"][TASK_ID] for pod in node.started)

    expected = {SUCCEEDS: "SUCCEEDED", FAILS: "FAILED", CANCELLED: "CANCELLED"}
    states = {run["run_id"]: run["state"] for run in listed}
    assert set(states) == set(ids), "a run was lost"
    wrong = {
        run_id: state
        for run_id, state in states.items()
        if state != expected.get(kind_of(run_id), state)
        or (kind_of(run_id) == OUT_OF_MEMORY and state == "SUCCEEDED")
    }
    assert wrong == {}
    assert {run_id: n for run_id, n in started.items() if n != 1} == {}, "a run was executed twice"
    assert set(ids) - set(started) <= doomed, "only a run that was cancelled may never have started"
    assert all(run_id in table for run_id in ids)
    assert_watched_twice(api_tier, namespace, since, terminated)


def assert_watched_twice(api_tier: ApiTier, namespace: str, since: int, terminated: Counter[str]) -> None:
    """One watch a kind; a further one only for each that the API server itself had ended.

    It ends the watch of a client to which it could not write for a fraction of a second
    (``apiserver_terminated_watchers_total``), which a busy machine brings about.
    """
    asked = [e for e in api_tier.audit(user="worker")[since:] if e.namespace == namespace]
    watches = Counter(entry.resource for entry in asked if entry.verb == "watch")
    ended = terminated_watches(api_tier) - terminated
    assert set(watches) == {"jobs", "pods"}
    assert all(1 <= watches[kind] <= 1 + ended[kind] for kind in watches), (watches, ended)
    reads = [entry for entry in asked if entry.verb == "get" and entry.subresource != "log"]
    of_tasks = [entry.request_uri for entry in reads if "oz-preflight" not in entry.request_uri]
    assert of_tasks == [], "a task costs no read"


def terminated_watches(api_tier: ApiTier) -> Counter[str]:
    """How many watches the API server has ended for their clients' slowness, by kind."""
    metrics = api_tier.client().exchange("GET", "/metrics")
    pattern = r'^apiserver_terminated_watchers_total\{.*resource="(\w+)".*\} (\S+)$'
    return Counter({kind: int(float(n)) for kind, n in re.findall(pattern, metrics, re.MULTILINE)})


async def submit(plane: ControlPlane, count: int) -> list[str]:
    """Submit runs through the API, all at once."""
    import aiohttp

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {plane.key}"}) as http:

        async def one(number: int) -> str:
            body = {"prompt": f"task {number}", "title": f"task {number}"}
            async with http.post(f"{plane.url}/api/v1/agent/runs", json=body) as response:
                created = await response.json()
                assert response.status < 300, created
                return str(created["run_id"])

        return list(await asyncio.gather(*(one(number) for number in range(count))))


async def cancel_as_they_run(plane: ControlPlane, doomed: set[str]) -> None:
    """Cancel each of these runs once it is claimed."""
    import aiohttp

    left = set(doomed)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {plane.key}"}) as http:
        while left:
            for run_id in list(left):
                async with http.get(f"{plane.url}/api/v1/agent/runs/{run_id}") as response:
                    state = (await response.json())["state"]
                if state in {"CLAIMED", "INPROGRESS"}:
                    async with http.post(f"{plane.url}/api/v1/agent/runs/{run_id}/cancel") as response:
                        assert response.status == 200, await response.text()
                    left.discard(run_id)
            await asyncio.sleep(0.1)


async def test_cancelling_a_running_task_removes_its_job_and_pod(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, config_file: str, tmp_path: Path
) -> None:
    def journey(plane: ControlPlane, node: Kubelet) -> None:
        created = json.loads(plane.oz("run", "anything", "-o", "json").stdout)
        plane_cancels(plane, created["run_id"])

    def plane_cancels(plane: ControlPlane, run_id: str) -> None:
        deadline = time.monotonic() + HANG_TIMEOUT
        while plane.oz("cancel", run_id, "--wait", check=False).returncode != 0:
            assert time.monotonic() < deadline, "the run could not be cancelled"
        state = json.loads(plane.oz("runs", run_id, "-o", "json").stdout)["state"]
        assert state == "CANCELLED"

    async with (
        kubelet(behaviours.always(behaviours.runs_until_cancelled())) as node,
        beside(control_plane(tmp_path)) as plane,
        beside(worker(plane, "--config-file", config_file)),
    ):
        await asyncio.to_thread(journey, plane, node)
        await until(lambda: jobs_left(api_tier, namespace) == [], "the Job's deletion")
        await node.until(lambda k: k.count("Running") == 0)


async def test_a_stopped_worker_leaves_running_jobs_alone(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, config_file: str, tmp_path: Path
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.runs_until_cancelled())) as node,
        beside(control_plane(tmp_path)) as plane,
    ):
        async with beside(worker(plane, "--config-file", config_file)) as running:
            await asyncio.to_thread(plane.oz, "run", "anything")
            await node.until(lambda k: k.count("Running") == 1)
        assert running.process.returncode == 0
        assert len(jobs_left(api_tier, namespace)) == 1
        assert node.count("Running") == 1


def test_an_api_server_that_cannot_be_reached_is_a_clear_failure(tmp_path: Path) -> None:
    """No cluster is needed to see that there is none."""
    from .programs import environment, oz

    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    document = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
    kubeconfig.write_text(json.dumps({**document, "current-context": "x"}))
    config = tmp_path / "worker.yaml"
    config.write_text(json.dumps({"backend": {"kubernetes": {"kubeconfig": str(kubeconfig)}}}))
    env = environment(tmp_path, WARP_API_KEY="a-key-that-nobody-asks-for")
    done = oz("--worker-id", "w", "--config-file", str(config), env=env, check=False)
    assert done.returncode == 3
    assert "https://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
