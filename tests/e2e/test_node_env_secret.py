"""A task's variables in a Secret, with a kubelet that reads it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.assignment import parse_assignment
from oz_agent_worker.protocol.frames import TaskCompleted
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import TaskSettings, build_task_spec
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import RestClient, wait_for
from tests.integration.worker.backends.kubernetes.worker import DEAD
from tests.timeouts import HANG_TIMEOUT

from .conftest import Report
from .peer import Peer
from .tasks import WORKER_ID, config_file, script_task, worker_of

pytestmark = pytest.mark.node

RULE = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
def client(node_tier: NodeTier, namespace: str) -> RestClient:
    """The administrator, who has let the worker create Secrets."""
    admin = node_tier.api.client()
    path = f"/apis/{RBAC}/v1/namespaces/{namespace}"
    admin.create(f"{path}/roles", {"metadata": {"name": "secrets"}, "rules": [RULE]})
    binding = {
        "metadata": {"name": "secrets"},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "secrets"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "worker"}],
    }
    admin.create(f"{path}/rolebindings", binding)
    return admin


def test_a_task_reads_its_variables_from_its_secret(
    client: RestClient, node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    keys: dict[str, Any] = {"task_env_secret": True, "setup_command": 'test "$TOKEN" = "sword \\$(X) fish"'}
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, **keys)):
        began = time.monotonic()
        task = peer.assign(script_task('echo "$TOKEN"', TOKEN="sword $(X) fish"))
        ending = peer.ending(task, HANG_TIMEOUT)
    report("variables in a Secret", ending, began)
    assert isinstance(ending, TaskCompleted), ending
    assert peer.output(task) == "sword $(X) fish\n"
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    wait_for("the garbage collector", lambda: client.get(secrets)["items"] == [])


def test_a_pod_waits_for_its_secret(
    client: RestClient, node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, report: Report
) -> None:
    """The worker that made the Job died before it had made the Secret; the next one is assigned the task."""
    assignment = script_task('echo "$TOKEN"', TOKEN="swordfish")
    spec = build_task_spec(parse_assignment(assignment), TaskSettings(server_root_url=""))
    config = KubernetesConfig(namespace=namespace, task_env_secret=True)
    job = plan_job(spec, config, worker_id=WORKER_ID, cleanup=True, unique="0", owner=DEAD).job
    client.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)

    def waits() -> bool:
        pods: Any = client.get(f"/api/v1/namespaces/{namespace}/pods")
        return "CreateContainerConfigError" in json.dumps([pod["status"] for pod in pods["items"]])

    wait_for("the Pod's complaint", waits)
    with worker_of(peer, config_file(node_tier, namespace, tmp_path, task_env_secret=True)):
        began = time.monotonic()
        ending = peer.ending(peer.assign(assignment), HANG_TIMEOUT)
    report("a Secret that is late", ending, began)
    assert isinstance(ending, TaskCompleted), ending
