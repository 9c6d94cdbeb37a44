"""What the cluster does to a task: a Pod that is deleted, a volume that is late, a quota that is full."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.core.wire import TaskCompleted, TaskFailed
from tests.cluster.nodetier import NodeTier
from tests.cluster.rest import RestClient, wait_for
from tests.e2e.conftest import Report
from tests.e2e.peer import Peer
from tests.e2e.tasks import config_file, processes_of, script_task, worker_of

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]

# A volume of a Secret, mounted into the task.
NEEDS_SECRET: dict[str, Any] = {
    "volumes": [{"name": "login", "secret": {"secretName": "login"}}],
    "containers": [
        {"name": "task", "volumeMounts": [{"name": "login", "mountPath": "/login", "readOnly": True}]}
    ],
}
LOGIN = {"metadata": {"name": "login"}, "stringData": {"user": "alice"}}


def items(client: RestClient, namespace: str, kind: str) -> list[Any]:
    """The objects of a kind of the core group in a namespace."""
    listed: Any = client.get(f"/api/v1/namespaces/{namespace}/{kind}")
    return list(listed["items"])


def has_event(client: RestClient, namespace: str, reason: str, words: str = "") -> Callable[[], bool]:
    """A check whether an event of that reason has been seen, with the words in its message."""

    def seen() -> bool:
        events = items(client, namespace, "events")
        return any(event["reason"] == reason and words in event["message"] for event in events)

    return seen


def test_a_pod_that_somebody_deletes(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    client = node_tier.api.client()
    with worker_of(peer, config_file(node_tier, namespace, tmp_path)):
        began = time.monotonic()
        task = peer.assign(script_task("trap 'exit 0' TERM; sleep 300 & wait $!"))
        wait_for("the task's process", lambda: processes_of(task) != [], timeout=60)
        (pod,) = [pod for pod in items(client, namespace, "pods") if task in pod["metadata"]["name"]]
        client.delete(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}")
        ending = peer.ending(task, 60)
    report("kubectl delete pod", ending, began)
    assert isinstance(ending, TaskFailed)
    assert ending.failure_reason == "pod_missing"
    assert "deleted" in ending.message


def test_a_secret_that_appears_later(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    client = node_tier.api.client()
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    client.create(secrets, LOGIN)
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, pod_template=NEEDS_SECRET)):
        client.delete(f"{secrets}/login")
        began = time.monotonic()
        task = peer.assign(script_task("cat /login/user; echo"))
        wait_for("the failed mount", has_event(client, namespace, "FailedMount", "login"), timeout=60)
        time.sleep(3)  # several attempts of the kubelet, and whatever a hasty worker would do of the first
        client.create(secrets, LOGIN)
        ending = peer.ending(task, 90)
    report("a missing Secret that appears later", ending, began)
    assert isinstance(ending, TaskCompleted), ending
    assert peer.output(task) == "alice\n"


def test_a_quota_that_is_full(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    client = node_tier.api.client()
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, unschedulable_timeout="5s")):
        quota = {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}}
        quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
        client.create(quotas, quota)
        wait_for("the quota's status", lambda: "hard" in client.get(f"{quotas}/full").get("status", {}))
        began = time.monotonic()
        task = peer.assign(script_task("exit 0"))
        ending = peer.ending(task, 45)
    report("a quota that is full", ending, began)
    assert isinstance(ending, TaskFailed)
    assert ending.failure_reason == "pod_missing"
    assert "exceeded quota: full" in ending.message


def test_output_comes_while_the_task_runs(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    with worker_of(peer, config_file(node_tier, namespace, tmp_path)):
        began = time.monotonic()
        task = peer.assign(script_task("echo first; while [ ! -e go ]; do sleep 0.2; done; echo last"))
        peer.wait_for_output(task, "first\n", 30)
        (agent, *_) = processes_of(task)
        assert peer.output(task) == "first\n"
        Path(f"/proc/{agent}/root/workspace/go").touch()
        ending = peer.ending(task, 60)
    report("live logs", ending, began)
    assert isinstance(ending, TaskCompleted)
    assert peer.output(task) == "first\nlast\n"
