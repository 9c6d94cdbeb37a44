"""What the worker's account may do: exactly what the documentation grants."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import needed_permissions
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.chart.helm_cli import WORKER, Helm
from tests.chart.objects import pick, worker_config
from tests.cluster import kubeconfig
from tests.cluster.namespaces import WORKER_RULES
from tests.cluster.rest import RestClient, wait_for
from tests.conftest import Cluster

pytestmark = pytest.mark.cluster

VERBS = ("create", "get", "list", "watch", "delete", "update", "patch", "deletecollection")
RESOURCES = (
    ("batch", "jobs"), ("batch", "cronjobs"), ("", "pods"), ("", "pods/log"), ("", "pods/exec"),
    ("", "pods/eviction"), ("", "pods/ephemeralcontainers"), ("", "events"), ("", "secrets"),
    ("", "configmaps"), ("", "serviceaccounts"), ("", "serviceaccounts/token"), ("", "nodes"),
    ("", "namespaces"), ("apps", "deployments"), ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
)  # fmt: skip

Allowed = set[tuple[str, str, str]]

DOCUMENTED: Allowed = {
    (rule["apiGroups"][0], rule["resources"][0], verb) for rule in WORKER_RULES for verb in rule["verbs"]
}


def token_of(admin: RestClient, namespace: str, account: str) -> str:
    """A token of a service account, as a Pod would be given."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    answer: Any = admin.create(path, {"spec": {"expirationSeconds": 3600}})
    return str(answer["status"]["token"])


def as_account(admin: RestClient, namespace: str, account: str) -> RestClient:
    """A client with nothing but the token of a service account."""
    headers = {"Authorization": f"Bearer {token_of(admin, namespace, account)}"}
    return RestClient(dataclasses.replace(admin.connection, headers=headers))


def allowed(client: RestClient, namespace: str) -> Allowed:
    """What the API server says of each verb on each resource."""
    found: Allowed = set()
    for (group, resource), verb in itertools.product(RESOURCES, VERBS):
        name, _, subresource = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name}
        review = {"spec": {"resourceAttributes": {**attributes, "subresource": subresource}}}
        answer: Any = client.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        if answer["status"]["allowed"]:
            found.add((group, resource, verb))
    return found


def install(helm: Helm, namespace: str, **values: str) -> None:
    """Install the worker, and nothing of the rest."""
    pairs = {"worker.workerId": "w", "image.tag": "v1", **values}
    sets = [f"--set={key}={value}" for key, value in pairs.items()]
    helm.run("install", "rel", WORKER, "--namespace", namespace, *sets)


def wait_until_allowed(client: RestClient, namespace: str) -> None:
    """The authorizer learns of a RoleBinding a moment after it was made."""
    attributes = {"namespace": namespace, "verb": "list", "resource": "events"}
    review = {"spec": {"resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    wait_for("the worker's permissions", lambda: bool(client.create(path, review)["status"]["allowed"]))


def test_the_account_may_do_what_is_documented_and_nothing_else(
    helm: Helm, admin: RestClient, namespace: str, tasks: str
) -> None:
    install(helm, namespace)
    worker = as_account(admin, namespace, "rel-oz-agent-worker")
    wait_until_allowed(worker, namespace)
    assert allowed(worker, namespace) == DOCUMENTED
    assert allowed(worker, tasks) == set()


def test_with_tasks_elsewhere_it_may_only_read_pods_of_its_own_namespace(
    helm: Helm, admin: RestClient, namespace: str, tasks: str
) -> None:
    install(helm, namespace, **{
        "kubernetesBackend.namespace": tasks, "kubernetesBackend.taskEnvSecret": "true",
    })  # fmt: skip
    worker = as_account(admin, namespace, "rel-oz-agent-worker")
    wait_until_allowed(worker, tasks)
    assert allowed(worker, tasks) == DOCUMENTED | {("", "secrets", "create")}
    assert allowed(worker, namespace) == {("", "pods", "get")}


@pytest.mark.usefixtures("operator_resources")
def test_the_doctor_finds_the_installed_permissions_enough(
    helm: Helm, cluster: Cluster, admin: RestClient, namespace: str, tasks: str, tmp_path: Path
) -> None:
    case = WORKER / "ci/everything-values.yaml"
    arguments = [f"--values={case}", f"--set=kubernetesBackend.namespace={tasks}"]
    helm.run("install", "rel", WORKER, "--namespace", namespace, *arguments)
    wait_until_allowed(as_account(admin, namespace, "rel-worker"), tasks)
    objects = helm.template(WORKER, case, namespace=namespace, options=(arguments[1],))
    (tmp_path / "config.yaml").write_text(worker_config(objects))
    user = {"token": token_of(admin, namespace, "rel-worker")}
    content = kubeconfig.document(cluster.server, admin.connection.authority, user, namespace)
    path = kubeconfig.write(tmp_path / "kubeconfig", content)
    findings = examined(pick(objects, "Pod"), tmp_path / "config.yaml", path)
    permissions = needed_permissions(KubernetesConfig(task_env_secret=True))
    for name in ("configuration", *map(str, permissions), "namespace", "task template"):
        assert findings[name]["verdict"] == "ok", findings[name]


def examined(pod: dict[str, Any], config: Path, kubeconfig_path: Path) -> dict[str, dict[str, str]]:
    """Run what the chart's test Pod runs, without its Job, and return each check's finding."""
    container = pod["spec"]["containers"][0]
    (command, _, *flags) = container["args"]
    own = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    arguments = [command, f"--config-file={config}", *flags, "--no-job", "--output=json"]
    done = subprocess.run(
        [sys.executable, "-m", "oz_agent_worker", *arguments],
        env={**own, "PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}
