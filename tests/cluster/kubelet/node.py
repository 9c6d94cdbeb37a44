"""The Node object and its Lease, by which the control plane knows that a kubelet is alive. Pure."""

from datetime import UTC, datetime
from typing import Any, Final

from .states import timestamp
from .status import HOST_IP

__all__ = ["LEASES", "LEASE_SECONDS", "lease", "node"]

LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

LEASE_SECONDS: Final = 40
"""As a kubelet's; it renews four times as often."""

ROOM: Final = {"cpu": "1000", "memory": "1000Gi", "pods": "10000", "ephemeral-storage": "1000Gi"}


def node(name: str, port: int, version: str, now: datetime) -> dict[str, Any]:
    """Return a Node that is ready, whose kubelet the API server reaches on loopback at ``port``."""
    moment = timestamp(now)
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": moment,
        "lastTransitionTime": moment,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": HOST_IP}, {"type": "Hostname", "address": name}],
            "capacity": ROOM,
            "allocatable": ROOM,
            "conditions": [ready],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "containerd://2.1.0",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": version,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }


def lease(name: str, now: datetime) -> dict[str, Any]:
    """Return the node's Lease, renewed at this moment."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }
