from collections.abc import Mapping
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import owner_namespace
from oz_agent_worker.worker.config.schema import KubernetesConfig

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("environ", "mounted", "expected"),
    [
        ({**IN_POD, "OZ_POD_NAMESPACE": "workers"}, None, "workers"),
        ({**IN_POD, "OZ_POD_NAMESPACE": "workers"}, "others", "workers"),
        (IN_POD, "workers\n", "workers"),
        ({**IN_POD, "OZ_POD_NAMESPACE": "tasks"}, None, None),
        (IN_POD, None, None),
        ({"OZ_POD_NAMESPACE": "workers"}, None, None),
    ],
)
def test_where_a_worker_s_siblings_are(
    tmp_path: Path, environ: Mapping[str, str], mounted: str | None, expected: str | None
) -> None:
    if mounted is not None:
        (tmp_path / "namespace").write_text(mounted)
    assert owner_namespace(KubernetesConfig(namespace="tasks"), environ, tmp_path) == expected


def test_a_kubeconfig_may_lead_to_another_cluster(tmp_path: Path) -> None:
    config = KubernetesConfig(namespace="tasks", kubeconfig="c")
    assert owner_namespace(config, {**IN_POD, "OZ_POD_NAMESPACE": "workers"}, tmp_path) is None
