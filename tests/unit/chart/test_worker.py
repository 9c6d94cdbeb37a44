"""What the worker's chart renders, value by value."""

from typing import Any

import pytest
from click.testing import CliRunner

from oz_agent_worker.cli.main import root
from oz_agent_worker.worker.app import WorkerOptions
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import label_selector
from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import needed_permissions, summary
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.chart.helm_cli import NAMESPACE, WORKER, Helm
from tests.chart.objects import container, environment, kinds, named, pick
from tests.cluster.namespaces import WORKER_RULES

Objects = list[dict[str, Any]]

BASE = ["ConfigMap", "Deployment", "Pod", "Role", "RoleBinding", "ServiceAccount"]


def rendered(helm: Helm, case: str = "minimal", **options: Any) -> Objects:
    """A case's objects; further values as ``values``."""
    return helm.template(WORKER, WORKER / f"ci/{case}-values.yaml", **options)


def rules(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """A Role's rules as (group, resource, verb)."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_defaults_make_these_objects_and_no_more(helm: Helm) -> None:
    assert kinds(rendered(helm)) == BASE


@pytest.mark.parametrize("case", ["minimal", "public", "everything", "own-objects"])
def test_every_object_names_its_namespace_and_its_release(helm: Helm, case: str) -> None:
    for found in rendered(helm, case):
        elsewhere = found["metadata"]["name"] == "agents-rel-worker"
        assert found["metadata"]["namespace"] == ("oz-tasks" if elsewhere else NAMESPACE)
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "rel"
        assert found["kind"] not in {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("rel", {}, "rel-oz-agent-worker"),
        ("oz-agent-worker", {}, "oz-agent-worker"),
        ("my-oz-agent-worker-2", {}, "my-oz-agent-worker-2"),
        ("rel", {"nameOverride": "w"}, "rel-w"),
        ("rel", {"fullnameOverride": "w"}, "w"),
        ("r" * 53, {}, "r" * 53 + "-oz-agent"),
    ],
)
def test_names_follow_helms_custom(helm: Helm, release: str, values: dict[str, Any], name: str) -> None:
    objects = rendered(helm, release=release, values={**values, "metrics.enabled": True})
    assert pick(objects, "Deployment")["metadata"]["name"] == name
    assert pick(objects, "ConfigMap")["metadata"]["name"] == f"{name}-config"
    service = pick(objects, "Service")["metadata"]["name"]
    assert service == f"{name[:55].rstrip('-')}-metrics"
    assert len(service) <= 63


# ------------------------------------------------------------------------------- the Deployment


def test_there_is_one_worker_and_never_two(helm: Helm) -> None:
    spec = pick(rendered(helm), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_neither_pod_nor_selector_know_the_charts_version(helm: Helm) -> None:
    spec = pick(rendered(helm, "public"), "Deployment")["spec"]
    own = {"app.kubernetes.io/name": "oz-agent-worker", "app.kubernetes.io/instance": "rel"}
    assert spec["selector"] == {"matchLabels": own}
    assert spec["template"]["metadata"]["labels"] == {**own, "team": "agents"}


def test_an_operators_label_cannot_take_the_pod_from_its_deployment(helm: Helm) -> None:
    label = {"app.kubernetes.io/name": "other"}
    template = pick(rendered(helm, values={"worker.podLabels": label}), "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "oz-agent-worker"


def test_the_arguments_are_the_workers_flags(helm: Helm) -> None:
    assert container(rendered(helm))["args"] == [
        "--config-file=/etc/oz-agent-worker/config.yaml",
        "--web-socket-url=wss://oz.warp.dev/api/v1/selfhosted/worker/ws",
        "--server-root-url=https://app.warp.dev",
        "--log-level=info",
    ]
    assert container(rendered(helm, "everything"))["args"] == [
        "--config-file=/etc/oz-agent-worker/config.yaml",
        "--web-socket-url=ws://control-plane.example.com:8080/api/v1/selfhosted/worker/ws",
        "--server-root-url=http://control-plane.example.com",
        "--log-level=info",
        "--log-format=json",
        "--health-port=8082",
    ]
    assert container(rendered(helm, "public"))["args"][-3:] == [
        "--log-level=debug",
        "--shutdown-grace=55s",
        "--env=TEAM=agents",
    ]


@pytest.mark.parametrize(("seconds", "grace"), [(0, 1), (5, 1), (7, 2), (31, 26), (3600, 3595)])
def test_results_are_delivered_before_the_pod_is_killed(helm: Helm, seconds: int, grace: int) -> None:
    objects = rendered(helm, values={"worker.terminationGracePeriodSeconds": seconds})
    assert pod_template(objects)["spec"]["terminationGracePeriodSeconds"] == seconds
    assert f"--shutdown-grace={grace}s" in container(objects)["args"]


def test_the_default_time_to_end_is_that_of_the_worker(helm: Helm) -> None:
    seconds = pod_template(rendered(helm))["spec"]["terminationGracePeriodSeconds"]
    assert seconds - 5 == WorkerOptions().shutdown_grace


@pytest.mark.parametrize("case", ["minimal", "public", "everything", "own-objects", "health"])
def test_the_worker_and_its_doctor_take_their_arguments(helm: Helm, case: str) -> None:
    objects = rendered(helm, case)
    (doctor,) = pick(objects, "Pod")["spec"]["containers"]
    for arguments in (container(objects)["args"], doctor["args"]):
        answer = CliRunner().invoke(root, [*arguments, "--help"])
        assert answer.exit_code == 0, answer.output


def test_the_pod_gives_the_worker_its_identity(helm: Helm) -> None:
    found = environment(container(rendered(helm)))
    assert found == {
        "WARP_API_KEY": {"secretKeyRef": {"name": "oz-agent-worker", "key": "WARP_API_KEY"}},
        "OZ_POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "OZ_POD_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "OZ_POD_UID": {"fieldRef": {"fieldPath": "metadata.uid"}},
        "OTEL_METRICS_EXPORTER": "none",
    }


def test_an_operators_variable_takes_the_place_of_the_charts(helm: Helm) -> None:
    found = environment(container(rendered(helm, "everything")))
    assert found["OTEL_METRICS_EXPORTER"] == "prometheus,otlp"
    assert found["OTEL_EXPORTER_PROMETHEUS_PORT"] == "9465"


def test_variables_of_metrics_are_left_out_with_metrics_off(helm: Helm) -> None:
    extra = [{"name": "OTEL_SERVICE_NAME", "value": "x"}]
    found = environment(container(rendered(helm, values={"metrics.extraEnv": extra})))
    assert "OTEL_SERVICE_NAME" not in found


def test_the_default_probe_asks_whether_process_1_is_there(helm: Helm) -> None:
    found = container(rendered(helm))
    assert found["livenessProbe"] == {
        "exec": {"command": ["kill", "-0", "1"]},
        "initialDelaySeconds": 10,
        "periodSeconds": 30,
        "failureThreshold": 3,
    }
    assert "readinessProbe" not in found
    assert "livenessProbe" not in container(rendered(helm, "own-objects"))


def test_another_handler_takes_the_place_of_the_default_ones(helm: Helm) -> None:
    assert container(rendered(helm, "otlp"))["livenessProbe"] == {
        "httpGet": {"path": "/livez", "port": 9000},
        "initialDelaySeconds": 10,
        "periodSeconds": 30,
        "failureThreshold": 3,
    }


def test_health_makes_both_probes(helm: Helm) -> None:
    found = container(rendered(helm, "health"))
    assert found["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    assert "exec" not in found["livenessProbe"]
    assert found["ports"] == [{"name": "health", "containerPort": 8081, "protocol": "TCP"}]
    assert not {"livenessProbe", "readinessProbe"} & container(rendered(helm, "no-probes")).keys()


def test_pull_secrets_may_be_names_or_objects(helm: Helm) -> None:
    objects = rendered(helm, values={"image.pullSecrets": ["a", {"name": "b"}]})
    assert pick(objects, "Deployment")["spec"]["template"]["spec"]["imagePullSecrets"] == [
        {"name": "a"},
        {"name": "b"},
    ]


def test_what_the_worker_writes_to_is_an_empty_folder(helm: Helm) -> None:
    spec = pick(rendered(helm, "everything"), "Deployment")["spec"]["template"]["spec"]
    assert named(spec["volumes"], "evidence") == {"name": "evidence", "emptyDir": {}}
    mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts == {
        "/etc/oz-agent-worker": "config",
        "/var/lib/oz/evidence": "evidence",
        "/etc/proxy-ca": "proxy-ca",
    }


def test_what_an_operator_mounts_is_not_mounted_over(helm: Helm) -> None:
    found = container(rendered(helm, "own-objects"))["volumeMounts"]
    assert {mount["mountPath"]: mount["name"] for mount in found} == {
        "/etc/oz-agent-worker": "config",
        "/tmp": "tmp",
        "/etc/kubeconfig": "kubeconfig",
        "/var/lib/oz/": "state",
    }


# ---------------------------------------------------------------------------- what restarts it


def pod_template(objects: Objects) -> Any:
    """What a Deployment restarts its Pod for."""
    return pick(objects, "Deployment")["spec"]["template"]


@pytest.mark.parametrize(
    ("values", "restarts"),
    [
        ({}, False),
        ({"worker.deploymentAnnotations": {"a": "b"}}, False),
        ({"metrics.podMonitor.interval": "1m"}, False),
        ({"podDisruptionBudget.create": True}, False),
        ({"networkPolicy.create": True}, False),
        ({"kubernetesBackend.setupCommand": "true"}, True),
        ({"worker.maxConcurrentTasks": 11}, True),
        ({"warp.apiKeySecret.value": "another"}, True),
        ({"image.tag": "v2"}, True),
    ],
)
def test_a_pod_is_restarted_only_for_what_it_reads(
    helm: Helm, values: dict[str, Any], restarts: bool
) -> None:
    before, after = rendered(helm, "public"), rendered(helm, "public", values=values)
    assert (pod_template(before) != pod_template(after)) is restarts


def test_rendering_twice_gives_the_same(helm: Helm) -> None:
    assert rendered(helm, "everything") == rendered(helm, "everything")


# -------------------------------------------------------------------------------------- Secrets


def test_the_secret_is_made_only_where_asked_for(helm: Helm) -> None:
    secret = pick(rendered(helm, "public"), "Secret")
    assert secret["metadata"]["name"] == "oz-worker-key"
    assert list(secret["data"]) == ["WARP_API_KEY"]
    key = environment(container(rendered(helm, "public")))["WARP_API_KEY"]
    assert key == {"secretKeyRef": {"name": "oz-worker-key", "key": "WARP_API_KEY"}}


def test_only_the_secret_has_the_key(helm: Helm) -> None:
    others = [found for found in rendered(helm, "public") if found["kind"] != "Secret"]
    assert "wk-0123456789abcdef" not in str(others)


# ---------------------------------------------------------------------------------- permissions


def test_the_role_has_exactly_what_the_worker_says_that_it_needs(helm: Helm) -> None:
    role = pick(rendered(helm), "Role")
    needed = {(p.group, p.resource, p.verb) for p in needed_permissions(KubernetesConfig())}
    assert rules(role) == needed == rules({"rules": WORKER_RULES})


def test_one_permission_more_with_task_env_secret(helm: Helm) -> None:
    role = pick(rendered(helm, values={"kubernetesBackend.taskEnvSecret": True}), "Role")
    assert rules(role) - rules({"rules": WORKER_RULES}) == {("", "secrets", "create")}


def test_with_tasks_elsewhere_the_permissions_are_where_the_tasks_are(helm: Helm) -> None:
    objects = rendered(helm, values={"kubernetesBackend.namespace": "oz-tasks"})
    role = pick(objects, "Role", "agents-rel-oz-agent-worker")
    binding = pick(objects, "RoleBinding", "agents-rel-oz-agent-worker")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "oz-tasks"
    assert rules(role) == rules({"rules": WORKER_RULES})
    account = {"kind": "ServiceAccount", "name": "rel-oz-agent-worker", "namespace": NAMESPACE}
    assert binding["subjects"] == [account]
    owner = pick(objects, "Role", "rel-oz-agent-worker")
    assert (owner["metadata"]["namespace"], rules(owner)) == (NAMESPACE, {("", "pods", "get")})
    assert pick(objects, "RoleBinding", "rel-oz-agent-worker")["subjects"] == [account]


@pytest.mark.parametrize("namespace", ["", "oz-tasks"])
def test_another_clusters_permissions_are_made_there(helm: Helm, namespace: str) -> None:
    values = {"kubernetesBackend.kubeconfig": "/etc/k", "kubernetesBackend.namespace": namespace}
    assert not {"Role", "RoleBinding"} & set(kinds(rendered(helm, values=values)))


def test_the_releases_own_namespace_may_be_named(helm: Helm) -> None:
    objects = rendered(helm, values={"kubernetesBackend.namespace": NAMESPACE})
    assert kinds(objects) == BASE


def test_an_account_that_exists_is_bound_and_not_made(helm: Helm) -> None:
    values = {"serviceAccount.create": False, "serviceAccount.name": "mine"}
    objects = rendered(helm, values=values)
    assert "ServiceAccount" not in kinds(objects)
    assert pick(objects, "RoleBinding")["subjects"][0]["name"] == "mine"
    assert pod_template(objects)["spec"]["serviceAccountName"] == "mine"
    assert pod_template(rendered(helm, "own-objects"))["spec"]["serviceAccountName"] == "default"


# ------------------------------------------------------------------------------------ the notes


def notes(helm: Helm, case: str, *options: str) -> str:
    """What Helm prints after an install."""
    printed = helm.run(
        "install", "rel", WORKER, "--namespace", NAMESPACE, "--dry-run=client", "--hide-secret",
        f"--values={WORKER / f'ci/{case}-values.yaml'}", *options,
    )  # fmt: skip
    return printed.partition("\nNOTES:\n")[2]


def test_the_notes_say_what_was_installed_and_how_to_see_it_work(helm: Helm) -> None:
    printed = notes(helm, "minimal")
    assert printed.startswith('Worker "my-worker" is installed')
    for command in (
        "kubectl -n agents rollout status deployment/rel-oz-agent-worker",
        "kubectl -n agents logs deployment/rel-oz-agent-worker --follow",
        "helm test rel --namespace agents --logs",
        'kubectl -n agents create secret generic oz-agent-worker --from-literal=WARP_API_KEY="$WARP_API_KEY"',
        f"kubectl -n agents delete jobs --selector {label_selector('my-worker')}",
    ):
        assert command in printed
    assert "port-forward" not in printed


def test_the_notes_leave_out_what_is_not_so(helm: Helm) -> None:
    printed = notes(helm, "public")
    assert "create secret" not in printed
    assert "port-forward deployment/oz-k8s-worker 9464" in printed
    assert "wk-0123456789" not in printed


RULES = summary(needed_permissions(KubernetesConfig()))
HERE = f"The worker needs these in namespace agents; `helm test` checks each:\n  {RULES}\n"
THERE = f"The worker needs these in namespace oz-tasks; `helm test` checks each:\n  {RULES}\n"
BESIDES = "And in namespace agents, to see whether the owner of a Job is gone:\n  pods: get\n"
ELSEWHERE = "The user of the kubeconfig needs these in namespace oz-tasks of its cluster; `helm test` checks"


@pytest.mark.parametrize(
    ("options", "says", "omits"),
    [
        ((), "", "permissions"),
        (("--set=rbac.create=false",), HERE, BESIDES),
        (
            ("--set=rbac.create=false", "--set=kubernetesBackend.namespace=oz-tasks"),
            THERE + BESIDES,
            "kubeconfig",
        ),
        (
            ("--set=kubernetesBackend.kubeconfig=/k", "--set=kubernetesBackend.namespace=oz-tasks"),
            ELSEWHERE,
            BESIDES,
        ),
    ],
)
def test_the_notes_name_the_permissions_that_were_not_made(
    helm: Helm, options: tuple[str, ...], says: str, omits: str
) -> None:
    printed = notes(helm, "minimal", *options)
    assert says in printed
    assert omits not in printed


@pytest.mark.parametrize("task_env_secret", [False, True])
def test_the_notes_name_every_permission_that_the_worker_needs(helm: Helm, task_env_secret: bool) -> None:
    secret = f"--set=kubernetesBackend.taskEnvSecret={str(task_env_secret).lower()}"
    printed = notes(helm, "minimal", "--set=rbac.create=false", secret)
    needed = needed_permissions(KubernetesConfig(task_env_secret=task_env_secret))
    assert f"\n  {summary(needed)}\n" in printed


def test_the_notes_say_how_a_config_of_the_operators_comes_to_count(helm: Helm) -> None:
    printed = notes(helm, "public", "--set=worker.existingConfigMap=mine")
    restart = "  kubectl -n agents rollout restart deployment/oz-k8s-worker\n"
    assert f"ConfigMap mine. When you have changed it:\n\n{restart}" in printed
