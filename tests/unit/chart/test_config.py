"""The ConfigMap holds a config file that the worker's own loader takes, and that says what the values say."""

from typing import Any

import pytest
import yaml

from oz_agent_worker.worker.config.load import parse_file
from oz_agent_worker.worker.config.schema import FileConfig, KubernetesConfig
from oz_agent_worker.worker.config.shapes import EnvEntry
from tests.chart.helm_cli import NAMESPACE, WORKER, Helm
from tests.chart.objects import pick, worker_config

ODD_LABELS = {"build": "1.10", "on": "yes"}
ODD_COMMAND = "echo '{{ x }}: \"y\"' # z"


def loaded(helm: Helm, case: str, **values: Any) -> FileConfig:
    """The config of a case, as the worker reads it."""
    objects = helm.template(WORKER, WORKER / f"ci/{case}-values.yaml", values=values)
    config, problems = parse_file(worker_config(objects), "config.yaml")
    assert problems.found == []
    return config


def test_the_defaults_are_the_workers_own_but_for_the_deadline(helm: Helm) -> None:
    assert loaded(helm, "minimal") == FileConfig(
        worker_id="my-worker",
        backend={"kubernetes": KubernetesConfig(namespace=NAMESPACE, active_deadline_seconds=28800)},
    )


def test_every_public_value_arrives(helm: Helm) -> None:
    given = yaml.safe_load((WORKER / "ci/public-values.yaml").read_text())["kubernetesBackend"]
    assert loaded(helm, "public") == FileConfig(
        worker_id="oz-k8s-worker",
        cleanup=False,
        max_concurrent_tasks=10,
        idle_on_complete="10m",
        backend={
            "kubernetes": KubernetesConfig(
                namespace=NAMESPACE,
                default_image="registry.example.com/agents/base:2",
                preflight_image="registry.example.com/library/busybox:1.36",
                sidecar_image="registry.example.com/warp/agent:3",
                image_pull_policy="Always",
                use_image_volumes=True,
                coding_cli_sidecars={"claude": "registry.example.com/warp/claude:1"},
                setup_command="git config --global user.name oz",
                teardown_command="echo done\nsync\n",
                extra_labels={"team": "agents"},
                extra_annotations={"example.com/owner": "agents"},
                active_deadline_seconds=3600,
                ttl_seconds_after_finished=1_000_000,
                workspace_size_limit="10Gi",
                unschedulable_timeout=120.0,
                pod_template=given["podTemplate"],
                preflight_resources={"requests": {"cpu": "20m", "memory": "32Mi"}},
            )
        },
    )


def test_every_other_key_of_the_backend_arrives(helm: Helm) -> None:
    assert loaded(helm, "everything").backend["kubernetes"] == KubernetesConfig(
        namespace="oz-tasks",
        active_deadline_seconds=28800,
        retry_on_disruption=2,
        scale_up_timeout=900.0,
        pull_grace=120.0,
        preflight_unschedulable="warn",
        service_account="tasks",
        image_pull_secrets=("task-registry",),
        node_selector={"pool": "tasks"},
        tolerations=({"key": "tasks", "operator": "Exists"},),
        resources={"limits": {"memory": "4Gi"}},
        termination_grace_period_seconds=120,
        environment=(EnvEntry("TEAM", "agents"), EnvEntry("REGION")),
        task_env_secret=True,
        evidence_dir="/var/lib/oz/evidence",
    )


def test_a_kubeconfig_arrives(helm: Helm) -> None:
    backend = loaded(helm, "minimal", **{"kubernetesBackend.kubeconfig": "/etc/k"}).backend["kubernetes"]
    assert isinstance(backend, KubernetesConfig)
    assert backend.kubeconfig == "/etc/k"


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("kubernetesBackend.activeDeadlineSeconds", None, ("active_deadline_seconds", None)),
        ("kubernetesBackend.ttlSecondsAfterFinished", 60, ("ttl_seconds_after_finished", 60)),
        ("kubernetesBackend.unschedulableTimeout", "0s", ("unschedulable_timeout", 0.0)),
        ("kubernetesBackend.useImageVolumes", True, ("use_image_volumes", True)),
        ("kubernetesBackend.terminationGracePeriodSeconds", 0, ("termination_grace_period_seconds", 0)),
        ("kubernetesBackend.extraLabels", ODD_LABELS, ("extra_labels", ODD_LABELS)),
        ("kubernetesBackend.setupCommand", ODD_COMMAND, ("setup_command", ODD_COMMAND)),
    ],
)
def test_a_value_keeps_its_meaning(helm: Helm, key: str, value: Any, read: tuple[str, Any]) -> None:
    backend = loaded(helm, "minimal", **{key: value}).backend["kubernetes"]
    assert getattr(backend, read[0]) == read[1]


@pytest.mark.parametrize("worker_id", ["0123", "true", "a:b", "x#y", "é"])
def test_a_worker_id_that_yaml_could_take_for_something_else_stays_a_text(helm: Helm, worker_id: str) -> None:
    assert loaded(helm, "minimal", **{"worker.workerId": worker_id}).worker_id == worker_id


def test_a_config_map_that_exists_is_used_with_the_worker_id(helm: Helm) -> None:
    objects = helm.template(WORKER, WORKER / "ci/own-objects-values.yaml")
    assert "ConfigMap" not in {found["kind"] for found in objects}
    pod = pick(objects, "Deployment")["spec"]["template"]
    assert "annotations" not in pod["metadata"]
    (config,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "config"]
    assert config["configMap"] == {"name": "my-worker-config"}
    assert "--worker-id=my-worker" in pod["spec"]["containers"][0]["args"]
