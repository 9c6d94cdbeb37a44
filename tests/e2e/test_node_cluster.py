"""What the cluster lacks for a task: a Secret that is late or never comes, room in a quota."""

import time
from pathlib import Path
from typing import Any, Final

import pytest

from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import wait_for
from tests.timeouts import HANG_TIMEOUT

from .ledger import Ledger
from .site import Site, running_site
from .tasks import script_task

pytestmark = pytest.mark.node

# A volume of a Secret, mounted into the task.
NEEDS_SECRET: Final[dict[str, Any]] = {
    "volumes": [{"name": "login", "secret": {"secretName": "login"}}],
    "containers": [
        {"name": "task", "volumeMounts": [{"name": "login", "mountPath": "/login", "readOnly": True}]}
    ],
}
LOGIN: Final = {"metadata": {"name": "login"}, "stringData": {"user": "alice"}}


def test_a_secret_that_appears_later(
    node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger
) -> None:
    node_tier.api.client().create(f"/api/v1/namespaces/{namespace}/secrets", LOGIN)
    with running_site(node_tier, namespace, tmp_path, pod_template=NEEDS_SECRET) as site:
        task = assign_without_secret(site)
        time.sleep(3)  # more attempts of the kubelet, and whatever a hasty worker would do of the first
        site.client.create(f"{site.core}/secrets", LOGIN)
        ending = site.peer.ending(task, HANG_TIMEOUT)
        ledger.report("a missing Secret that appears later", ending, site.peer.seconds(task))
        assert isinstance(ending, TaskCompleted), ending
        assert site.peer.output(task) == "alice\n"


def test_a_secret_that_never_appears(
    node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger
) -> None:
    node_tier.api.client().create(f"/api/v1/namespaces/{namespace}/secrets", LOGIN)
    section = {"pod_template": NEEDS_SECRET, "pull_grace": "5s"}
    with running_site(node_tier, namespace, tmp_path, **section) as site:
        task = assign_without_secret(site)
        ending = site.peer.ending(task, HANG_TIMEOUT)
        ledger.report("a missing Secret that never appears", ending, site.peer.seconds(task))
    assert isinstance(ending, TaskFailed)
    assert ending.failure_reason == "volume_mount"
    assert 'secret "login" not found' in ending.message


def assign_without_secret(site: Site) -> str:
    """Delete the Secret that the preflight has seen; return the ID of a task that misses it."""
    site.client.delete(f"{site.core}/secrets/login")
    task = site.peer.assign(script_task("cat /login/user; echo"))
    wait_for("the failed mount", lambda: has_event(site, "FailedMount", "login"))
    return task


def has_event(site: Site, reason: str, text: str) -> bool:
    """Whether an event of that reason has been seen with the text in its message."""
    return any(event["reason"] == reason and text in event["message"] for event in site.items("events"))


def test_a_quota_that_is_full(node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger) -> None:
    with running_site(node_tier, namespace, tmp_path, unschedulable_timeout="5s") as site:
        quotas = f"{site.core}/resourcequotas"
        site.client.create(quotas, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}})
        wait_for("the quota's status", lambda: "hard" in site.client.get(f"{quotas}/full").get("status", {}))
        task = site.peer.assign(script_task("exit 0"))
        ending = site.peer.ending(task, HANG_TIMEOUT)
        ledger.report("a quota that is full", ending, site.peer.seconds(task))
    assert isinstance(ending, TaskFailed)
    assert ending.failure_reason == "pod_missing"
    assert "exceeded quota: full" in ending.message
