"""The node runs Pods, and a worker's task on it goes from assignment to report."""

from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.frames import TaskCompleted
from tests.cluster.node.images import BUSYBOX_IMAGE
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import wait_for

from .ledger import Ledger
from .site import running_site
from .tasks import script_task

pytestmark = pytest.mark.node


def container(name: str, script: str) -> dict[str, Any]:
    """A container of the BusyBox image."""
    return {"name": name, "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script]}


def test_a_job_with_an_init_container_runs_to_its_end(node_tier: NodeTier, namespace: str) -> None:
    client = node_tier.api.client()
    pod = {
        "restartPolicy": "Never",
        "initContainers": [container("before", "echo first")],
        "containers": [container("main", "echo second; test -d /proc/1")],
    }
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    client.create(jobs, {"metadata": {"name": "job"}, "spec": spec})

    def is_complete() -> bool:
        found: Any = client.get(f"{jobs}/job")
        kinds = [condition["type"] for condition in found["status"].get("conditions") or ()]
        assert "Failed" not in kinds, found
        return "Complete" in kinds

    wait_for("the Job's completion", is_complete)
    (found,) = client.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    log = f"/api/v1/namespaces/{namespace}/pods/{found['metadata']['name']}/log?container="
    assert client.exchange("GET", f"{log}before") == "first\n"
    assert client.exchange("GET", f"{log}main") == "second\n"


def test_a_task_succeeds_and_its_job_goes(
    node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger
) -> None:
    with running_site(node_tier, namespace, tmp_path) as site:
        task = site.peer.assign(script_task('echo "hello from $OZ_WORKER_BACKEND in $PWD"'))
        ending = site.peer.ending(task)
        ledger.report("a task that succeeds", ending, site.peer.seconds(task))
        assert isinstance(ending, TaskCompleted)
        assert ending.task_state is None
        assert site.peer.output(task) == "hello from kubernetes in /workspace\n"
        wait_for("the Job's deletion", lambda: site.jobs() == [])
