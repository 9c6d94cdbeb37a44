"""The node runs Pods, and a worker's tasks on it from assignment to report."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.core.wire import TaskCompleted
from tests.cluster.node.images import BUSYBOX_IMAGE
from tests.cluster.nodetier import NodeTier
from tests.cluster.rest import wait_for
from tests.e2e.conftest import Report
from tests.e2e.peer import Peer
from tests.e2e.tasks import config_file, script_task, worker_of

pytestmark = [pytest.mark.node, pytest.mark.timeout(180)]


def test_a_job_with_an_init_container_runs_to_its_end(node_tier: NodeTier, namespace: str) -> None:
    client = node_tier.api.client()
    containers = {
        name: {"name": name, "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script]}
        for name, script in (("before", "echo first"), ("main", "echo second; test -d /proc/1"))
    }
    pod = {
        "restartPolicy": "Never",
        "initContainers": [containers["before"]],
        "containers": [containers["main"]],
    }
    job = {"metadata": {"name": "job"}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    client.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)

    def ended() -> bool:
        found: Any = client.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/job")
        kinds = [condition["type"] for condition in found["status"].get("conditions") or ()]
        assert "Failed" not in kinds, found
        return "Complete" in kinds

    wait_for("the Job's completion", ended, timeout=60.0)
    (found,) = client.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    log = f"/api/v1/namespaces/{namespace}/pods/{found['metadata']['name']}/log?container="
    assert client.exchange("GET", f"{log}before") == "first\n"
    assert client.exchange("GET", f"{log}main") == "second\n"


@pytest.fixture
def worker(node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path) -> Iterator[None]:
    with worker_of(peer, config_file(node_tier, namespace, tmp_path)):
        yield


@pytest.mark.usefixtures("worker")
def test_a_task_succeeds_and_its_job_goes(
    node_tier: NodeTier, namespace: str, peer: Peer, report: Report
) -> None:
    began = time.monotonic()
    task = peer.assign(script_task('echo "hello from $OZ_WORKER_BACKEND in $PWD"'))
    ending = peer.ending(task, 60)
    report("a task that succeeds", ending, began)
    assert isinstance(ending, TaskCompleted)
    assert ending.task_state is None
    assert peer.output(task) == "hello from kubernetes in /workspace\n"
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    wait_for("the Job's deletion", lambda: node_tier.api.client().get(jobs)["items"] == [])
