"""The harness itself: what the other cluster tests take for granted."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cluster import kubeconfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient, eventually
from tests.cluster.errors import ApiError, ClusterError
from tests.cluster.external import ExternalCluster
from tests.cluster.kubeconfig import Connection
from tests.cluster.kubelet import Kubelet, behaviours, execute
from tests.cluster.kubelet.behaviours import always, by_annotation, succeed
from tests.cluster.provision import binaries
from tests.cluster.rest import RestClient
from tests.timeouts import HANG_TIMEOUT

pytestmark = pytest.mark.cluster

MakeKubelet = Callable[..., Kubelet]

TASK_ID = "oz.warp.dev/task-id"


def jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def job(name: str, *, init: bool = False, **container: Any) -> dict[str, Any]:
    task = {"name": "task", "image": "busybox:1", "command": ["true"], **container}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "containers": [task],
    }
    if init:
        spec["initContainers"] = [{"name": "setup", "image": "busybox:1", "command": ["true"]}]
    template = {"metadata": {"annotations": {TASK_ID: name}}, "spec": spec}
    return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}


async def finished(api: AsyncRestClient, namespace: str, name: str) -> str:
    """Wait for a Job's end and return the condition that shows it."""
    path = jobs(namespace)
    async with asyncio.timeout(HANG_TIMEOUT):
        while True:
            listing = await api.get(path)
            for item in listing["items"]:
                if item["metadata"]["name"] == name and (end := terminal_condition(item)):
                    return end
            # An API server that has just started refuses watches (429) and ends them: list again.
            with suppress(ApiError, aiohttp.ClientError):
                async for _, item in api.watch(path, listing["metadata"]["resourceVersion"]):
                    if item["metadata"]["name"] == name and (end := terminal_condition(item)):
                        return end
            await asyncio.sleep(0.1)


def terminal_condition(item: dict[str, Any]) -> str:
    conditions = item["status"].get("conditions", ())
    return next((c["type"] for c in conditions if c["type"] in {"Complete", "Failed"}), "")


async def only_pod(api: AsyncRestClient, namespace: str) -> dict[str, Any]:
    (pod,) = (await api.get(pods(namespace)))["items"]
    return dict(pod)


async def pods_gone(api: AsyncRestClient, namespace: str) -> None:
    async def gone() -> bool:
        return not (await api.get(pods(namespace)))["items"]

    await eventually("no Pods", gone)


async def test_server_states_the_version_of_its_binary(api: AsyncRestClient, api_tier: ApiTier) -> None:
    printed = subprocess.run(
        [binaries()["kube-apiserver"], "--version"], capture_output=True, text=True, check=True
    ).stdout
    version = await api.get("/version")
    assert printed.strip() == f"Kubernetes {version['gitVersion']}"
    assert (int(version["major"]), int(version["minor"])) >= (1, 35)


async def test_job_completes_and_its_log_comes_through_the_api_server(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet
) -> None:
    async with kubelet(always(succeed(output="first\nlast\n"))) as node:
        await api.create(jobs(namespace), job("done", init=True))
        assert await finished(api, namespace, "done") == "Complete"

        pod = await only_pod(api, namespace)
        log = f"{pods(namespace)}/{pod['metadata']['name']}/log"
        assert await api.text(log) == "first\nlast\n"
        assert await api.text(f"{log}?tailLines=1") == "last\n"
        assert await api.text(f"{log}?limitBytes=3") == "fir"
    assert pod["spec"]["nodeName"] == node.name
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["initContainerStatuses"][0]["ready"] is True
    assert [seen["metadata"]["uid"] for seen in node.started] == [pod["metadata"]["uid"]]


async def test_followed_log_ends_with_the_container(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet
) -> None:
    go_on = asyncio.Event()

    async def script(run: Any) -> None:
        await run.run()
        run.write("before\n")
        await go_on.wait()
        run.write("after\n")
        await run.finish()

    async with kubelet(always(script)) as node:
        await api.create(jobs(namespace), job("followed"))
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        name = (await only_pod(api, namespace))["metadata"]["name"]
        following = asyncio.create_task(api.text(f"{pods(namespace)}/{name}/log?follow=true"))
        done, _ = await asyncio.wait([following], timeout=0.2)
        assert not done
        go_on.set()
        assert await asyncio.wait_for(following, HANG_TIMEOUT) == "before\nafter\n"


@pytest.mark.parametrize(
    ("script", "phase", "state"),
    [
        (behaviours.exit_with(3), "Failed", {"exitCode": 3, "reason": "Error"}),
        (behaviours.oom_killed(after=0.01), "Failed", {"exitCode": 137, "reason": "OOMKilled"}),
        (behaviours.evicted(), "Failed", {"exitCode": 137, "reason": "Error"}),
    ],
    ids=["exit", "oom", "evicted"],
)
async def test_pod_that_ends_badly_fails_its_job(
    api: AsyncRestClient,
    namespace: str,
    kubelet: MakeKubelet,
    script: Any,
    phase: str,
    state: dict[str, Any],
) -> None:
    async with kubelet(always(script)):
        await api.create(jobs(namespace), job("bad"))
        assert await finished(api, namespace, "bad") == "Failed"
        status = (await only_pod(api, namespace))["status"]
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert status["phase"] == phase
    assert {key: terminated[key] for key in state} == state


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (behaviours.image_pull_back_off(), "ImagePullBackOff"),
        (behaviours.invalid_image_name(), "InvalidImageName"),
        (behaviours.create_container_config_error(), "CreateContainerConfigError"),
    ],
    ids=["pull", "name", "config"],
)
async def test_container_that_cannot_start_waits_with_its_reason(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet, script: Any, reason: str
) -> None:
    async def waits() -> bool:
        items = (await api.get(pods(namespace)))["items"]
        statuses = [status for item in items for status in item["status"].get("containerStatuses", ())]
        return any(status["state"].get("waiting", {}).get("reason") == reason for status in statuses)

    async with kubelet(always(script)):
        await api.create(jobs(namespace), job("stuck", init=True))
        await eventually(f"waiting with {reason}", waits)
        assert (await only_pod(api, namespace))["status"]["phase"] == "Pending"
        events = (await api.get(f"/api/v1/namespaces/{namespace}/events"))["items"]
        assert any(event["source"]["component"] == "kubelet" for event in events)


async def test_troubles_that_heal_end_in_success(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet
) -> None:
    behaviours_by_task = {
        "pull": behaviours.err_image_pull_then_ok(succeed()),
        "mount": behaviours.failed_mount("timed out waiting for the condition", then=succeed()),
        "room": behaviours.unschedulable(then=succeed()),
    }
    async with kubelet(by_annotation(TASK_ID, behaviours_by_task, default=behaviours.exit_with(9))):
        await asyncio.gather(*(api.create(jobs(namespace), job(name)) for name in behaviours_by_task))
        ends = await asyncio.gather(*(finished(api, namespace, name) for name in behaviours_by_task))
    assert ends == ["Complete"] * 3


async def test_failed_init_container_fails_the_job(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet
) -> None:
    async with kubelet(always(behaviours.init_fails(2, output="no room\n"))):
        await api.create(jobs(namespace), job("init", init=True))
        assert await finished(api, namespace, "init") == "Failed"
        pod = await only_pod(api, namespace)
        log = await api.text(f"{pods(namespace)}/{pod['metadata']['name']}/log?container=setup")
    assert log == "no room\n"
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 2
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


async def test_deleted_job_takes_its_running_pod_with_it(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet
) -> None:
    async with kubelet(always(behaviours.runs_until_cancelled())) as node:
        await api.create(jobs(namespace), job("cancelled"))
        await node.until(lambda kubelet: kubelet.count("Running") == 1)
        await api.delete(f"{jobs(namespace)}/cancelled", propagationPolicy="Background")
        await pods_gone(api, namespace)
        assert (await api.get(jobs(namespace)))["items"] == []


async def test_execute_runs_the_container_with_its_environment(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet, tmp_path: Path
) -> None:
    agent = tmp_path / "agent.py"
    agent.write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.environ['GREETING'], os.getcwd() == os.environ['ROOT'], flush=True)\n"
        "sys.exit(7)\n"
    )
    wrapper = [
        "/bin/sh",
        "-c",
        'exec /agent/entrypoint.sh "$@"',
        "oz-task",
        "a $(NAME)",
        "$$(NAME)",
        "$(NONE)",
    ]
    variables = {"NAME": "b c", "GREETING": "hi $(NAME)", "ROOT": "/workspace"}
    container: dict[str, Any] = {
        "command": wrapper,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "workingDir": "/workspace",
    }
    async with kubelet(always(execute([sys.executable, agent]))):
        await api.create(jobs(namespace), job("real", **container))
        assert await finished(api, namespace, "real") == "Failed"
        pod = await only_pod(api, namespace)
        log = await api.text(f"{pods(namespace)}/{pod['metadata']['name']}/log")
    assert log == "['a b c', '$(NAME)', '$(NONE)'] hi b c True\n"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


async def test_execute_ends_the_process_when_its_pod_is_deleted(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet, tmp_path: Path
) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    program = f"trap 'echo > {stopped}; exit 0' TERM; echo > {started}; while :; do sleep 0.05; done"

    async def is_running() -> bool:
        return started.exists()

    async with kubelet(always(execute(["true"]))):
        await api.create(jobs(namespace), job("stopped", command=["/bin/sh", "-c", program]))
        await eventually("the process runs", is_running)
        await api.delete(f"{jobs(namespace)}/stopped", propagationPolicy="Background")
        await pods_gone(api, namespace)
    assert stopped.exists()


def test_worker_has_its_documented_permissions_and_no_others(
    cluster: ApiTier | ExternalCluster, namespace: str
) -> None:
    worker = cluster.client("worker", namespace)
    worker.create(jobs(namespace), job("mine"))
    worker.get(pods(namespace))
    worker.get(f"/api/v1/namespaces/{namespace}/events")
    worker.delete(f"{jobs(namespace)}/mine", propagationPolicy="Background")
    for path in (f"/api/v1/namespaces/{namespace}/secrets", "/api/v1/pods", "/api/v1/nodes"):
        with pytest.raises(ApiError) as refused:
            worker.get(path)
        assert refused.value.status == 403


def test_a_user_without_a_role_is_refused(api_tier: ApiTier, namespace: str) -> None:
    with pytest.raises(ApiError) as refused:
        api_tier.client("nobody").get(jobs(namespace))
    assert refused.value.status == 403


def test_a_client_certificate_names_a_user(api_tier: ApiTier, namespace: str, tmp_path: Path) -> None:
    pair = api_tier.client_certificate("worker")
    (tmp_path / "worker.crt").write_bytes(pair.certificate)
    (tmp_path / "worker.key").write_bytes(pair.key)
    entry = {"client-certificate": "worker.crt", "client-key": "worker.key"}
    content = kubeconfig.document(api_tier.server, api_tier.authority, entry)
    path = kubeconfig.write(tmp_path / "kubeconfig", content)
    assert RestClient(Connection.from_kubeconfig(path)).get(jobs(namespace))["items"] == []


def test_audit_log_has_each_request_once(api_tier: ApiTier, namespace: str) -> None:
    worker = api_tier.client("worker")
    worker.create(jobs(namespace), job("counted"))
    worker.get(f"{jobs(namespace)}/counted")
    worker.exchange("GET", f"{jobs(namespace)}?watch=true&timeoutSeconds=1")
    with pytest.raises(ApiError):
        worker.get(f"/api/v1/namespaces/{namespace}/secrets")
    entries = api_tier.audit(user="worker", namespace=namespace)
    asked = [(entry.verb, entry.resource, entry.code) for entry in entries]
    assert asked == [
        ("create", "jobs", 201),
        ("get", "jobs", 200),
        ("watch", "jobs", 200),
        ("list", "secrets", 403),
    ]
    assert api_tier.audit(user="nobody", namespace=namespace) == []


@pytest.mark.parametrize("grace", [0.0, 1.0], ids=["killed", "terminated"])
async def test_everything_goes_on_after_a_restart_of_the_api_server(
    api: AsyncRestClient, api_tier: ApiTier, namespace: str, kubelet: MakeKubelet, grace: float
) -> None:
    async with kubelet(always(succeed())) as node:
        await api.create(jobs(namespace), job("before"))
        assert await finished(api, namespace, "before") == "Complete"
        await asyncio.to_thread(api_tier.stop_apiserver, grace=grace)
        await asyncio.to_thread(api_tier.start_apiserver)
        await api.create(jobs(namespace), job("after"))
        assert await finished(api, namespace, "after") == "Complete"
        assert len(node.started) == 2
        names = {item["metadata"]["name"] for item in (await api.get(jobs(namespace)))["items"]}
    assert names == {"before", "after"}


async def test_a_script_that_raises_fails_the_test(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet
) -> None:
    async def broken(run: Any) -> None:
        raise ZeroDivisionError(run.name)

    async def play() -> None:
        async with kubelet(always(broken)) as node:
            await api.create(jobs(namespace), job("broken"))
            await node.until(lambda kubelet: False)

    with pytest.raises(ClusterError, match="played kubelet") as failure:
        await play()
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


async def test_a_thousand_pods(
    api: AsyncRestClient, namespace: str, kubelet: MakeKubelet, capsys: pytest.CaptureFixture[str]
) -> None:
    """The speed is printed: what it should be depends on the machine."""
    count = 1000
    spec = job("x")["spec"]["template"]["spec"]
    async with kubelet(always(succeed())) as node:
        started = time.monotonic()
        bodies = [{"metadata": {"name": f"pod-{number}"}, "spec": spec} for number in range(count)]
        await asyncio.gather(*(api.create(pods(namespace), body) for body in bodies))
        created = time.monotonic() - started
        await node.until(lambda kubelet: kubelet.count("Succeeded") == count)
        ended = time.monotonic() - started
    with capsys.disabled():
        print(f"\n{count} Pods created in {created:.1f} s, all Succeeded after {ended:.1f} s")
