"""Install, upgrade and uninstall with real Helm."""

import re
import shutil
from typing import Any

import pytest
import yaml

from tests.chart.helm_cli import CONTROL_PLANE, WORKER, Helm, HelmError
from tests.cluster.errors import ApiError
from tests.cluster.rest import RestClient, wait_for

pytestmark = pytest.mark.cluster

NEEDED = ("--set=worker.workerId=w", "--set=image.tag=v1")
LISTED = (
    "/apis/apps/v1/{}/deployments", "/api/v1/{}/configmaps", "/api/v1/{}/secrets", "/api/v1/{}/services",
    "/api/v1/{}/serviceaccounts", "/api/v1/{}/persistentvolumeclaims",
    "/apis/rbac.authorization.k8s.io/v1/{}/roles", "/apis/rbac.authorization.k8s.io/v1/{}/rolebindings",
    "/apis/networking.k8s.io/v1/{}/networkpolicies", "/apis/policy/v1/{}/poddisruptionbudgets",
)  # fmt: skip


def objects_in(admin: RestClient, namespace: str) -> dict[str, int]:
    """All objects that a release could have made, with their generation where they have one."""
    found = {}
    for path in LISTED:
        for item in admin.get(path.format(f"namespaces/{namespace}"))["items"]:
            kind = path.rpartition("/")[2]
            found[f"{kind}/{item['metadata']['name']}"] = item["metadata"].get("generation", 0)
    return found


def deployment(admin: RestClient, namespace: str, name: str) -> Any:
    """One Deployment."""
    return admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")


def replica_sets(admin: RestClient, namespace: str) -> list[str]:
    """The ReplicaSets: one more for each Pod template that the Deployment has had."""
    items = admin.get(f"/apis/apps/v1/namespaces/{namespace}/replicasets")["items"]
    return [item["metadata"]["name"] for item in items]


@pytest.mark.usefixtures("operator_resources")
def test_a_release_comes_and_goes_without_a_trace(helm: Helm, admin: RestClient, namespace: str) -> None:
    before = objects_in(admin, namespace)
    case = WORKER / "ci/everything-values.yaml"
    values = (f"--values={case}", "--set=kubernetesBackend.namespace=null")
    helm.run("install", "rel", WORKER, "--namespace", namespace, *values)
    installed = objects_in(admin, namespace)
    for name in ("deployments/rel-worker", "configmaps/rel-worker-config", "secrets/oz-agent-worker",
                 "services/rel-worker-metrics", "roles/rel-worker", "networkpolicies/rel-worker",
                 "poddisruptionbudgets/rel-worker"):  # fmt: skip
        assert name in installed
    helm.run("uninstall", "rel", "--namespace", namespace)
    wait_for("the end of the release", lambda: objects_in(admin, namespace) == before)


def test_tasks_elsewhere_leave_nothing_there_either(
    helm: Helm, admin: RestClient, namespace: str, tasks: str
) -> None:
    before = objects_in(admin, tasks)
    elsewhere = f"--set=kubernetesBackend.namespace={tasks}"
    helm.run("install", "rel", WORKER, "--namespace", namespace, *NEEDED, elsewhere)
    made = objects_in(admin, tasks).keys() - before.keys()
    name = f"{namespace}-rel-oz-agent-worker"
    assert made == {f"roles/{name}", f"rolebindings/{name}"}
    helm.run("uninstall", "rel", "--namespace", namespace)
    assert objects_in(admin, tasks).keys() == before.keys()


def test_an_upgrade_that_changes_nothing_changes_nothing(
    helm: Helm, admin: RestClient, namespace: str
) -> None:
    helm.run("install", "rel", WORKER, "--namespace", namespace, *NEEDED)
    wait_for("a ReplicaSet", lambda: len(replica_sets(admin, namespace)) == 1)
    before, sets = objects_in(admin, namespace), replica_sets(admin, namespace)
    helm.run("upgrade", "rel", WORKER, "--namespace", namespace, *NEEDED)
    after = objects_in(admin, namespace)
    assert after.pop("secrets/sh.helm.release.v1.rel.v2") == 0
    assert after == before
    assert replica_sets(admin, namespace) == sets


def test_an_upgrade_of_the_config_restarts_the_worker(helm: Helm, admin: RestClient, namespace: str) -> None:
    helm.run("install", "rel", WORKER, "--namespace", namespace, *NEEDED)
    before = deployment(admin, namespace, "rel-oz-agent-worker")["spec"]["template"]["metadata"]
    helm.run("upgrade", "rel", WORKER, "--namespace", namespace, *NEEDED, "--set=worker.cleanup=false")
    after = deployment(admin, namespace, "rel-oz-agent-worker")["spec"]["template"]["metadata"]
    changed = dict(after["annotations"].items() - before["annotations"].items())
    assert changed.keys() == {"checksum/config"}
    assert after["labels"] == before["labels"]
    wait_for("a second ReplicaSet", lambda: len(replica_sets(admin, namespace)) == 2)


def test_an_upgrade_to_another_version_of_the_chart_restarts_nothing(
    helm: Helm, admin: RestClient, namespace: str
) -> None:
    newer = helm.home / "newer"
    newer.mkdir(parents=True)
    packaged = helm.run("package", WORKER, "--version=9.9.9", "--app-version=9.9.9", "--destination", newer)
    helm.run("install", "rel", WORKER, "--namespace", namespace, *NEEDED)
    before = deployment(admin, namespace, "rel-oz-agent-worker")["spec"]
    helm.run("upgrade", "rel", packaged.strip().rpartition(" ")[2], "--namespace", namespace, *NEEDED)
    after = deployment(admin, namespace, "rel-oz-agent-worker")
    assert after["metadata"]["labels"]["helm.sh/chart"] == "oz-agent-worker-9.9.9"
    assert after["spec"] == before


@pytest.mark.usefixtures("operator_resources")
def test_a_values_file_of_the_public_chart_installs(helm: Helm, admin: RestClient, namespace: str) -> None:
    case = WORKER / "ci/public-values.yaml"
    output = helm.run("install", "rel", WORKER, "--namespace", namespace, f"--values={case}")
    assert "STATUS: deployed" in output
    found = deployment(admin, namespace, "oz-k8s-worker")
    assert found["spec"]["template"]["spec"]["serviceAccountName"] == "oz-worker"
    path = f"/apis/monitoring.coreos.com/v1/namespaces/{namespace}/podmonitors/oz-k8s-worker"
    assert admin.get(path)["metadata"]["labels"]["release"] == "prometheus"


def test_without_what_is_needed_nothing_is_installed(helm: Helm, admin: RestClient, namespace: str) -> None:
    before = objects_in(admin, namespace)
    with pytest.raises(Exception, match=r"worker\.workerId is required"):
        helm.run("install", "rel", WORKER, "--namespace", namespace)
    assert objects_in(admin, namespace) == before


def test_the_control_planes_runs_outlive_its_release(helm: Helm, admin: RestClient, namespace: str) -> None:
    case = f"--values={CONTROL_PLANE / 'ci/minimal-values.yaml'}"
    claim = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/rel-oz-control-plane-data"
    before = objects_in(admin, namespace)
    helm.run("install", "rel", CONTROL_PLANE, "--namespace", namespace, case)
    uid = admin.get(claim)["metadata"]["uid"]
    helm.run("uninstall", "rel", "--namespace", namespace)
    left = objects_in(admin, namespace).keys() - before.keys()
    assert left == {"persistentvolumeclaims/rel-oz-control-plane-data"}
    helm.run("install", "rel", CONTROL_PLANE, "--namespace", namespace, case)
    assert admin.get(claim)["metadata"]["uid"] == uid


def test_a_claim_that_is_not_to_be_kept_goes(helm: Helm, admin: RestClient, namespace: str) -> None:
    case = f"--values={CONTROL_PLANE / 'ci/no-keep-values.yaml'}"
    claim = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/rel-oz-control-plane-data"
    helm.run("install", "rel", CONTROL_PLANE, "--namespace", namespace, case)
    helm.run("uninstall", "rel", "--namespace", namespace)

    def gone() -> bool:
        try:
            admin.get(claim)
        except ApiError as error:
            return error.status == 404
        return False

    wait_for("the end of the claim", gone)


def test_both_charts_install_with_two_commands(helm: Helm, admin: RestClient, bare: str) -> None:
    key = "0123456789abcdef0123456789abcdef"
    plane = ("--set=image.tag=v1", "--set=apiKeySecret.create=true", f"--set=apiKeySecret.value={key}")
    output = helm.run("install", "oz-control-plane", CONTROL_PLANE, "--namespace", bare, *plane)
    command = output[output.index("helm install") :].partition("\n\n")[0].replace("\\\n", " ").split()
    sets = [f"--set={word}" for word in command if "=" in word]
    assert len(sets) == 4
    helm.run("install", "oz-agent-worker", WORKER, "--namespace", bare, *sets)
    secrets = [name for name in objects_in(admin, bare) if name == "secrets/oz-agent-worker"]
    assert len(secrets) == 1


def test_a_stale_value_of_a_release_is_found_and_removed(
    helm: Helm, admin: RestClient, namespace: str
) -> None:
    older = helm.home.parent / WORKER.name
    shutil.copytree(WORKER, older)
    schema = yaml.safe_load((older / "files/schema.yaml").read_text())
    schema["values"]["worker"]["values"]["replicas"] = {"kind": "integer", "default": 1}
    (older / "files/schema.yaml").write_text(yaml.safe_dump(schema))
    helm.run("install", "rel", older, "--namespace", namespace, *NEEDED, "--set=worker.replicas=2")
    upgrade = ("upgrade", "rel", WORKER, "--namespace", namespace, "--reset-then-reuse-values")
    with pytest.raises(HelmError) as refused:
        helm.run(*upgrade, "--dry-run=client")
    assert "worker.replicas: known here are" in str(refused.value)
    (argument,) = re.findall(r"--set (\S+)", str(refused.value))
    helm.run(*upgrade, f"--set={argument}")
    assert "replicas" not in helm.run("get", "values", "rel", "--namespace", namespace)
    helm.run(*upgrade)
    assert deployment(admin, namespace, "rel-oz-agent-worker")["spec"]["replicas"] == 1
