"""Pods that are started again, and those that are not: a drain, a refusal by the node, a deadline."""

import time
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import RestClient, wait_for
from tests.timeouts import HANG_TIMEOUT

from .conftest import Report
from .peer import Peer
from .tasks import config_file, processes_of, script_task, worker_of

pytestmark = pytest.mark.node

WAITS = "trap 'exit 143' TERM; echo begun; while [ ! -e go ]; do sleep 0.2; done; echo done"


def pods_of(client: RestClient, namespace: str, task: str) -> list[Any]:
    """A task's Pods, the first first."""
    listed: Any = client.get(f"/api/v1/namespaces/{namespace}/pods")
    pods = [pod for pod in listed["items"] if task in pod["metadata"]["name"]]
    return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])


def test_a_drained_pod_is_started_again(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    client = node_tier.api.client()
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, retry_on_disruption=1)):
        began = time.monotonic()
        task = peer.assign(script_task(WAITS))
        peer.wait_for_output(task, "begun\n", HANG_TIMEOUT)
        (pod,) = pods_of(client, namespace, task)
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        client.create(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)
        wait_for("the next attempt", lambda: _second(client, namespace, task, name))
        wait_for("its process", lambda: processes_of(task) != [])
        (agent, *_) = processes_of(task)
        assert not Path(f"/proc/{agent}/root/workspace/go").exists()
        Path(f"/proc/{agent}/root/workspace/go").touch()
        ending = peer.ending(task, HANG_TIMEOUT)
    report("drained, and started again", ending, began)
    assert isinstance(ending, TaskCompleted), ending
    assert peer.output(task).endswith("begun\ndone\n")
    assert peer.output(task).count("started again") == 1


def _second(client: RestClient, namespace: str, task: str, first: str) -> bool:
    pods = pods_of(client, namespace, task)
    others = [pod for pod in pods if pod["metadata"]["name"] != first]
    return len(others) == 1 and others[0]["status"]["phase"] == "Running"


def test_a_pod_that_its_node_refuses_is_tried_once_more(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    client = node_tier.api.client()
    (node,) = client.get("/api/v1/nodes")["items"]
    # With the node chosen there is no scheduler who would see that there is no room on it.
    keys: dict[str, Any] = {
        "retry_on_disruption": 1,
        "pod_template": {"nodeName": node["metadata"]["name"]},
    }
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, **keys)):
        began = time.monotonic()
        task = peer.assign(script_task("exit 0", vcpus=1000))
        ending = peer.ending(task, HANG_TIMEOUT)
        refused = [pod["status"].get("reason") for pod in pods_of(client, namespace, task)]
    report("refused by its node, twice", ending, began)
    assert isinstance(ending, TaskFailed), ending
    assert "OutOfcpu" in ending.message
    assert refused == ["OutOfcpu", "OutOfcpu"]


def test_a_pod_past_its_own_deadline_is_not_tried_again_whatever_its_exit_code(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    client = node_tier.api.client()
    keys: dict[str, Any] = {"retry_on_disruption": 2, "pod_template": {"activeDeadlineSeconds": 12}}
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, **keys)):
        began = time.monotonic()
        task = peer.assign(script_task("trap 'exit 0' TERM; while :; do sleep 0.1; done"))
        ending = peer.ending(task, HANG_TIMEOUT)
        pods = pods_of(client, namespace, task)
    report("the Pod's own deadline, with retries", ending, began)
    assert isinstance(ending, TaskFailed), ending
    assert ending.failure_reason == "active_deadline"
    assert len(pods) == 1
