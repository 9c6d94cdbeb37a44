"""A worker that cannot run tasks ends at its start, and says what to change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.node.registry import Registry
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import wait_for

from .ledger import Ledger
from .peer import Peer
from .tasks import config_file, failed_start

pytestmark = pytest.mark.node


def expect(
    peer: Peer,
    config: Path,
    ledger: Ledger,
    case: str,
    message_parts: Sequence[str],
) -> None:
    """Start a worker that must end with exit code 3, with the message parts in its last line."""
    code, message = failed_start(peer, config)
    ledger.note(case, f"exit code {code}", message)
    assert code == 3, message
    for part in message_parts:
        assert part in message


def test_pod_security_that_is_restricted(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, ledger: Ledger
) -> None:
    label: Mapping[str, Any] = {"pod-security.kubernetes.io/enforce": "restricted"}
    client = node_tier.api.client()
    found: Any = client.get(f"/api/v1/namespaces/{namespace}")
    found["metadata"]["labels"] |= label
    client.request("PUT", f"/api/v1/namespaces/{namespace}", found)
    message_parts = ["violates PodSecurity", "restricted", "runAsNonRoot"]
    config = config_file(node_tier, namespace, tmp_path)
    expect(peer, config, ledger, "preflight: restricted Pod Security", message_parts)
    assert jobs(node_tier, namespace) == []


def test_an_image_that_its_registry_does_not_have(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, ledger: Ledger
) -> None:
    with Registry() as registry:
        image = registry.reference("missing:1")
        config = config_file(node_tier, namespace, tmp_path, preflight_image=image)
        expect(peer, config, ledger, "preflight: missing image", [image, "not found", "preflight_image"])
    assert jobs(node_tier, namespace) == []


def test_a_node_selector_that_no_node_has(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, ledger: Ledger
) -> None:
    config = config_file(
        node_tier, namespace, tmp_path, node_selector={"gpu": "yes"}, unschedulable_timeout="3s"
    )
    message_parts = ["node affinity/selector", "nodeSelector"]
    expect(peer, config, ledger, "preflight: no such node", message_parts)
    assert jobs(node_tier, namespace) == []


def test_a_quota_that_is_full(
    node_tier: NodeTier, namespace: str, peer: Peer, tmp_path: Path, ledger: Ledger
) -> None:
    client = node_tier.api.client()
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    client.create(quotas, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}})
    wait_for("the quota's status", lambda: "hard" in client.get(f"{quotas}/full").get("status", {}))
    config = config_file(node_tier, namespace, tmp_path)
    expect(peer, config, ledger, "preflight: quota", ["exceeded quota: full"])
    assert jobs(node_tier, namespace) == []


def jobs(node_tier: NodeTier, namespace: str) -> list[str]:
    """The Jobs that are left."""
    listed: Any = node_tier.api.client().get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return [item["metadata"]["name"] for item in listed["items"]]
