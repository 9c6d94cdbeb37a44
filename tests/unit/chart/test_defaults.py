"""The values that operators already use: the names and defaults of the public chart."""

from typing import Any

import pytest
import yaml

from oz_agent_worker.worker.config.load import DEFAULT_SERVER_ROOT_URL, DEFAULT_WEB_SOCKET_URL
from tests.chart.helm_cli import WORKER

PUBLIC: dict[str, Any] = {
    "nameOverride": "",
    "fullnameOverride": "",
    "image.tag": "",
    "image.pullPolicy": "IfNotPresent",
    "image.pullSecrets": [],
    "serviceAccount.create": True,
    "serviceAccount.name": "",
    "serviceAccount.annotations": {},
    "rbac.create": True,
    "warp.apiKeySecret.create": False,
    "warp.apiKeySecret.name": "oz-agent-worker",
    "warp.apiKeySecret.key": "WARP_API_KEY",
    "warp.apiKeySecret.value": "",
    "warp.webSocketURL": DEFAULT_WEB_SOCKET_URL,
    "warp.serverRootURL": DEFAULT_SERVER_ROOT_URL,
    "worker.workerId": "",
    "worker.logLevel": "info",
    "worker.cleanup": True,
    "worker.maxConcurrentTasks": 0,
    "worker.idleOnComplete": "",
    "worker.extraArgs": [],
    "worker.extraEnv": [],
    "worker.deploymentAnnotations": {},
    "worker.podAnnotations": {},
    "worker.podLabels": {},
    "worker.terminationGracePeriodSeconds": 30,
    "worker.podSecurityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "worker.securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "worker.livenessProbe": {
        "exec": {"command": ["kill", "-0", "1"]},
        "initialDelaySeconds": 10,
        "periodSeconds": 30,
        "failureThreshold": 3,
    },
    "worker.resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    "worker.nodeSelector": {},
    "worker.tolerations": [],
    "worker.affinity": {},
    "kubernetesBackend.namespace": "",
    "kubernetesBackend.defaultImage": "",
    "kubernetesBackend.preflightImage": "",
    "kubernetesBackend.sidecarImage": "",
    "kubernetesBackend.setupCommand": "",
    "kubernetesBackend.teardownCommand": "",
    "kubernetesBackend.workspaceSizeLimit": "",
    "kubernetesBackend.imagePullPolicy": "IfNotPresent",
    "kubernetesBackend.useImageVolumes": False,
    "kubernetesBackend.unschedulableTimeout": "30s",
    "kubernetesBackend.extraLabels": {},
    "kubernetesBackend.extraAnnotations": {},
    "kubernetesBackend.podTemplate": {},
    "kubernetesBackend.preflightResources": {},
    "kubernetesBackend.codingCLISidecars": {},
    "kubernetesBackend.activeDeadlineSeconds": 28800,
    "kubernetesBackend.ttlSecondsAfterFinished": 86400,
    "metrics.enabled": False,
    "metrics.exporter": "prometheus",
    "metrics.port": 9464,
    "metrics.extraEnv": [],
    "metrics.service.create": True,
    "metrics.service.type": "ClusterIP",
    "metrics.podMonitor.create": False,
    "metrics.podMonitor.interval": "30s",
    "metrics.podMonitor.scrapeTimeout": "10s",
    "metrics.podMonitor.additionalLabels": {},
}
"""Its annotations of the metrics Service are in ``test_worker``: the port follows ``metrics.port``."""


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    """The chart's values.yaml."""
    content = yaml.safe_load((WORKER / "values.yaml").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_value_has_its_public_default(values: dict[str, Any], path: str) -> None:
    found: Any = values
    for part in path.split("."):
        found = found[part]
    assert found == PUBLIC[path]


def test_the_case_of_a_public_values_file_has_every_public_value() -> None:
    given = yaml.safe_load((WORKER / "ci/public-values.yaml").read_text())
    for path in PUBLIC:
        found: Any = given
        for part in path.split("."):
            assert part in found, path
            found = found[part]
