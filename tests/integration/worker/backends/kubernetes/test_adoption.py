"""Which existing Jobs a worker adopts, on an API server that misbehaves on demand."""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import AdoptableExecution, LaunchError, NoOutput
from oz_agent_worker.worker.backends.kubernetes.adoption.decision import AdoptionPolicy
from oz_agent_worker.worker.backends.kubernetes.adoption.instance import PodInstance, ProcessInstance
from oz_agent_worker.worker.backends.kubernetes.adoption.self_identity import this_machine, this_process
from oz_agent_worker.worker.backends.kubernetes.backend import BackendSettings, KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.execution import KubernetesExecution
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name, task_annotations, task_labels
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .api_server import ApiServer, breaks, forbidden, says
from .driven_worker import key
from .worker import DEAD, QUICK, running_backend, task

OWN = str(this_process(this_machine()))
JOB = job_name(key("run"))

Begin = Callable[..., AbstractAsyncContextManager[KubernetesBackend]]


class Desk:
    """Keeps what was found."""

    def __init__(self) -> None:
        self.found: list[AdoptableExecution] = []

    def __call__(self, found: AdoptableExecution) -> None:
        self.found.append(found)

    @property
    def names(self) -> list[str]:
        return sorted(found.key.task_id for found in self.found)

    def follow(self, name: str) -> KubernetesExecution:
        (found,) = [found for found in self.found if found.key.task_id == name]
        execution = found.follow(NoOutput())
        assert isinstance(execution, KubernetesExecution)
        return execution


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def begin(server: ApiServer, tmp_path: Path, desk: Desk) -> Begin:
    """Start a worker that keeps on ``desk`` what it finds."""

    def start(
        settings: BackendSettings = QUICK, environ: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[KubernetesBackend]:
        kubeconfig = server.kubeconfig(tmp_path)
        return running_backend(kubeconfig, "ns", settings=settings, found=desk, environ=environ)

    return start


def ended(seconds_ago: float = 0, kind: str = "Complete") -> dict[str, Any]:
    time = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": time}]}


def running_or_ended(end: str | None) -> dict[str, Any]:
    """The status of a Job: made when a test needs it, for an end long ago is another thing."""
    return {"active": 1} if end is None else ended(kind=end)


async def put(server: ApiServer, name: str, owner: str | None = None, **more: Any) -> None:
    """A Job of the task ``name``, of another worker process; ``more`` is metadata, and its status."""
    annotations = task_annotations(key(name))
    if owner is not None:
        annotations["oz.warp.dev/owner"] = owner
    status = more.pop("status", {"active": 1})
    metadata = {"labels": task_labels("worker-a", key(name)), "annotations": annotations, **more}
    await server.put("jobs", job_name(key(name)), metadata=metadata, status=status)


async def put_worker(server: ApiServer, name: str, **status: Any) -> str:
    """A worker's Pod; return what its Jobs name as their owner."""
    pod = await server.put("pods", name, status={"phase": "Running", **status})
    return str(PodInstance("ns", name, pod["metadata"]["uid"]))


# Whose is it?


@pytest.mark.parametrize("end", [None, "Complete", "Failed"])
async def test_what_an_owner_left_that_is_gone_is_found_before_the_start_is_over(
    server: ApiServer, begin: Begin, desk: Desk, end: str | None
) -> None:
    boot = dataclasses.replace(this_machine(), boot="the-boot-before")
    gone = {
        "own": OWN,
        "dead": DEAD,
        "before": str(ProcessInstance(boot, 1, "1")),
        "removed": "pod/ns/worker-9/uid",
        "replaced": (await put_worker(server, "worker-1")) + "-another",
        "ended": await put_worker(server, "worker-2", phase="Failed"),
    }
    for name, owner in gone.items():
        await put(server, name, owner, status=running_or_ended(end))
    async with begin():
        assert desk.names == sorted(gone)
    assert {found.ended for found in desk.found} == {end is not None}
    assert server.asked("delete", "jobs") == 0


@pytest.mark.parametrize("end", [None, "Complete"])
async def test_what_has_or_may_have_a_living_owner_is_left_to_it(
    server: ApiServer, begin: Begin, desk: Desk, end: str | None
) -> None:
    there = dataclasses.replace(this_machine(), host="elsewhere")
    others = {
        "alive": await put_worker(server, "worker-1"),
        "elsewhere": str(ProcessInstance(there, 1, "1")),
        "public": None,
        "odd": "who knows",
    }
    for name, owner in others.items():
        await put(server, name, owner, status=running_or_ended(end))
    async with begin():
        await asyncio.sleep(0.3)
        assert desk.names == []


async def test_one_request_asks_for_an_owner_however_many_jobs_it_has(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    owner = await put_worker(server, "worker-1")
    for n in range(50):
        await put(server, f"run-{n}", owner)
    slow = dataclasses.replace(QUICK, owners=dataclasses.replace(QUICK.owners, first=60.0))
    async with begin(slow):
        for n in range(50):
            await put(server, f"run-{n}", owner, status={"active": 1, "ready": 1})
        await put(server, "later", owner)
        await asyncio.sleep(0.1)
        assert server.asked("get", "pods") == 1


async def test_an_owner_that_goes_later_leaves_its_jobs(server: ApiServer, begin: Begin, desk: Desk) -> None:
    owner = await put_worker(server, "worker-1")
    await put(server, "before", owner)
    async with begin():
        await put(server, "after", owner)
        await put(server, "done", owner, status=ended())
        await eventually(lambda: server.asked("get", "pods") > 3)
        assert desk.names == []
        await server.remove("pods", "worker-1")
        await eventually(lambda: desk.names == ["after", "before", "done"])
        await put(server, "too-late", owner)
        await eventually(lambda: "too-late" in desk.names)


async def test_a_request_for_an_owner_that_fails_is_made_again(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    await put(server, "run", "pod/ns/worker-9/uid")
    quick = dataclasses.replace(QUICK.client, read=dataclasses.replace(QUICK.client.read, budget=0.0))
    server.faults["get", "pods"].extend([breaks, says(500), says(429)])
    async with begin(dataclasses.replace(QUICK, client=quick)):
        await eventually(lambda: desk.names == ["run"])


async def test_an_owner_that_may_not_be_looked_for_may_be_alive(
    server: ApiServer, begin: Begin, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await put(server, "run", "pod/ns/worker-9/uid")
    server.faults["get", "pods"].extend([forbidden("get", "pods")] * 3)
    async with begin():
        assert desk.names == []
        await eventually(lambda: desk.names == ["run"])  # the permission is there by then
    assert sum("grant pods: get in namespace ns" in message for message in caplog.messages) == 1


async def test_a_server_that_does_not_know_its_roles_yet_is_asked_for_an_owner_again(
    server: ApiServer, begin: Begin, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await put(server, "run", "pod/ns/worker-9/uid")
    server.faults["get", "pods"].extend([forbidden("get", "pods")] * 3)
    patient = dataclasses.replace(QUICK.owners, refused=3600.0, refusal_patience=HANG_TIMEOUT)
    async with begin(dataclasses.replace(QUICK, owners=patient)):
        await eventually(lambda: desk.names == ["run"])
    assert not [message for message in caplog.messages if "cannot" in message]


async def test_a_server_that_does_not_know_its_roles_yet_is_asked_for_a_secret_again(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    named = {**task_annotations(key("run")), "oz.warp.dev/owner": DEAD, "oz.warp.dev/environment-secret": "s"}
    await put(server, "run", annotations=named)
    server.faults["create", "secrets"].extend([forbidden("create", "secrets"), says(409, "AlreadyExists")])
    async with begin():
        assert desk.names == []
        await eventually(lambda: desk.names == ["run"])
    assert server.asked("create", "secrets") == 2


async def test_the_end_of_an_orphan_is_reported_after_its_grace(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    await put(server, "public", status=ended(599))
    await put(server, "fresh", status=ended(30))
    await put(server, "running")
    settings = dataclasses.replace(QUICK, adoption=AdoptionPolicy(orphan_grace=600))
    async with begin(settings):
        await eventually(lambda: desk.names == ["public"])
        await server.finish(job_name(key("running")), ended(599))
        await eventually(lambda: desk.names == ["public", "running"])


async def test_a_secret_that_cannot_be_looked_for_is_looked_for_again(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    named = {**task_annotations(key("run")), "oz.warp.dev/owner": DEAD, "oz.warp.dev/environment-secret": "s"}
    await put(server, "run", annotations=named)
    quick = dataclasses.replace(QUICK.client, read=dataclasses.replace(QUICK.client.read, budget=0.0))
    server.faults["create", "secrets"].extend([says(500), says(409, "AlreadyExists")])
    async with begin(dataclasses.replace(QUICK, client=quick)):
        assert desk.names == []
        await eventually(lambda: desk.names == ["run"])
    assert server.asked("create", "secrets") == 2


async def test_a_job_whose_secret_never_comes_is_followed_as_it_is(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    named = {**task_annotations(key("run")), "oz.warp.dev/owner": DEAD, "oz.warp.dev/environment-secret": "s"}
    async with begin(dataclasses.replace(QUICK, adoption=AdoptionPolicy(secret_grace=0.5))):
        await put(server, "run", annotations=named)
        await eventually(lambda: server.asked("create", "secrets") == 1)
        assert desk.names == []
        await eventually(lambda: desk.names == ["run"])
    assert server.names("secrets") == []


# What is ignored


async def test_jobs_left_alone_are_logged_once_and_in_one_line(
    server: ApiServer, begin: Begin, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = {"oz-worker-id": "worker-b"}
    for n in range(3):
        await put(server, f"collision-{n}", OWN, labels=task_labels("worker-a", key("x")) | other)
        await put(server, f"bare-{n}", annotations={"oz.warp.dev/owner": OWN})
        await put(server, f"old-{n}", OWN, status=ended(4000))
    await put(server, "going", OWN, deletionTimestamp="2026-01-01T00:00:00Z")
    async with begin():
        for n in range(3):
            await put(server, f"collision-{n}", OWN, labels=task_labels("worker-a", key("x")) | other)
        await asyncio.sleep(0.1)
    assert desk.found == []
    assert server.asked("delete", "jobs") == 0
    logged = sorted(m for m in caplog.messages if "Not adopted: " in m)
    assert len(logged) == 3
    assert [line.split(", such as ")[0] for line in logged] == ["Not adopted: 3 Jobs"] * 3
    assert [
        cluster_message
        for cluster_message in ("same hash", "annotations", "too long ago")
        if cluster_message not in str(logged)
    ] == []


async def test_of_several_executions_of_a_task_the_last_is_reported_and_any_that_runs_is_followed(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    def execution(n: int) -> dict[str, Any]:
        annotations = {"oz.warp.dev/task-id": "run", "oz.warp.dev/execution-id": str(n)}
        return {
            "annotations": {**annotations, "oz.warp.dev/owner": DEAD},
            "creationTimestamp": f"2026-01-01T00:00:0{n}Z",
        }

    await put(server, "first", **execution(1), status=ended(10, "Failed"))
    await put(server, "second", **execution(2))
    await put(server, "third", **execution(3), status=ended(5))
    async with begin():
        assert sorted(found.key.execution_id for found in desk.found) == ["2", "3"]


async def test_what_a_worker_creates_itself_it_never_finds(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    async with begin() as backend:
        execution = await backend.launch(task("run"), NoOutput())
        await server.finish(JOB, ended(0, "Failed"))
        outcome = await execution.wait()
        await execution.release(outcome)  # a failed Job stays
        await put(server, "run", OWN, status=ended(0, "Failed"))
        await server.compact()
        await eventually(lambda: server.asked("list", "jobs") - server.asked_from_cache() == 2)
        await asyncio.sleep(0.1)
        assert desk.found == []


# What was found


async def test_a_job_that_went_before_it_was_followed_has_ended(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    await put(server, "gone", DEAD)
    async with begin():
        await server.remove("jobs", job_name(key("gone")))
        await put(server, "wakes-the-watch", DEAD)
        await eventually(lambda: "wakes-the-watch" in desk.names)
        gone = desk.follow("gone")
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await gone.wait()
        assert outcome.reason is FailureReason.JOB_FAILED


async def test_a_followed_job_that_is_in_no_later_list_is_gone(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    await put(server, "gone", DEAD)
    await put(server, "stays", DEAD)
    async with begin():
        waits = {name: asyncio.create_task(desk.follow(name).wait()) for name in ("gone", "stays")}
        server.deaf = True
        await server.remove("jobs", job_name(key("gone")))
        server.deaf = False
        await server.compact()
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await waits["gone"]).reason is FailureReason.JOB_FAILED
        await server.finish(job_name(key("stays")), ended())
        assert (await waits["stays"]).result is TaskResult.SUCCEEDED


async def test_one_who_did_not_delete_a_job_lets_the_one_who_did_speak_first(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    await put(server, "run", DEAD)
    async with begin():
        wait = asyncio.create_task(desk.follow("run").wait())
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await server.remove("jobs", JOB)
        async with asyncio.timeout(HANG_TIMEOUT):
            outcome = await wait
        assert outcome.result is TaskResult.FAILED
        assert asyncio.get_running_loop().time() - began >= 4.5


async def test_a_job_that_another_follower_deleted_for_a_cancellation_ends_as_cancelled_here_too(
    server: ApiServer, begin: Begin, desk: Desk
) -> None:
    patient = dataclasses.replace(QUICK, precedence=60.0)
    await put(server, "run", DEAD)
    async with begin(patient):
        execution = desk.follow("run")
        wait = asyncio.create_task(execution.wait())
        await server.remove("jobs", JOB)
        await put(server, "wakes-the-watch", DEAD)
        await eventually(lambda: "wakes-the-watch" in desk.names)
        await execution.stop("cancellation requested")
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await wait).result is TaskResult.CANCELLED


# Adoption


@pytest.mark.parametrize("owner", [OWN, DEAD, "pod/ns/worker-9/uid"], ids=["own", "dead", "gone"])
async def test_an_existing_execution_is_adopted_from_an_owner_that_is_gone(
    server: ApiServer, begin: Begin, owner: str
) -> None:
    async with begin() as backend:
        server.deaf = True
        await put(server, "run", owner, status=ended())
        execution = await backend.launch(task("run"), NoOutput())
        server.deaf = False
        await put(server, "wakes-the-watch", DEAD)
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert server.asked("create", "jobs") == 1


@pytest.mark.parametrize(
    ("owner", "worker_id", "cluster_message"),
    [
        (OWN, "worker-b", r"another worker \(worker-b\)"),
        ("alive", "worker-a", "is alive"),
        (None, "worker-a", "cannot be known"),
        ("who knows", "worker-a", "cannot be known"),
    ],
    ids=["another worker", "alive", "not named", "odd"],
)
async def test_an_execution_in_other_hands_is_handed_back(
    server: ApiServer, begin: Begin, owner: str | None, worker_id: str, cluster_message: str
) -> None:
    if owner == "alive":
        owner = await put_worker(server, "worker-1")
    async with begin() as backend:
        server.deaf = True
        await put(server, "run", owner, labels=task_labels(worker_id, key("run")))
        with pytest.raises(LaunchError, match=cluster_message) as caught:
            await backend.launch(task("run"), NoOutput())
    assert caught.value.outcome is None
    assert server.names() == [JOB]


# Who is this?


async def test_a_worker_in_a_pod_that_the_api_server_knows_is_that_pod(
    server: ApiServer, begin: Begin
) -> None:
    owner = await put_worker(server, "worker-1")
    uid = owner.rpartition("/")[2]
    names = {"OZ_POD_NAMESPACE": "ns", "OZ_POD_NAME": "worker-1"}
    async with begin(environ={**names, "OZ_POD_UID": uid}) as backend:
        assert backend.instance == owner
        await backend.launch(task("run"), NoOutput())
        created = server.get("jobs", JOB)
    assert created["metadata"]["annotations"]["oz.warp.dev/owner"] == owner
    assert "oz.warp.dev/owner" not in created["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.parametrize("missing", ["Pod", "UID", "permission"])
async def test_a_pod_of_another_cluster_is_a_process_to_this_one(
    server: ApiServer, begin: Begin, missing: str
) -> None:
    if missing != "Pod":
        await put_worker(server, "worker-1")
    if missing == "permission":
        server.faults["get", "pods"].append(forbidden("get", "pods"))
    environ = {"OZ_POD_NAMESPACE": "ns", "OZ_POD_NAME": "worker-1", "OZ_POD_UID": "of-another-cluster"}
    async with begin(environ=environ) as backend:
        assert backend.instance == OWN


async def test_outside_a_cluster_a_worker_is_its_process(server: ApiServer, begin: Begin) -> None:
    async with begin(environ={"HOSTNAME": "laptop"}) as backend:
        assert backend.instance == OWN
        assert server.asked("get", "pods") == 0
