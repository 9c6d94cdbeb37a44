"""The preflight Job and the sample task, whole."""

from typing import Any

import pytest

from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import id_hash
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_job import (
    build_preflight_job,
    build_sample_job,
)
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.config.shapes import EnvEntry

HASH = id_hash("Worker 1")
SMALL = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
PASS = ["/bin/sh", "-c", "exit 0"]


def preflight(**keys: Any) -> dict[str, Any]:
    return build_preflight_job(
        KubernetesConfig(**keys), worker_id="Worker 1", unique="1a2b3c4d", deadline=360
    )


def pod_of(job: dict[str, Any]) -> Any:
    return job["spec"]["template"]["spec"]


def test_the_default_is_a_task_with_a_sidecar_that_does_nothing() -> None:
    labels = {"oz-worker-id": "worker-1", "oz-preflight": HASH}
    mounts = [
        {"name": "workspace", "mountPath": "/workspace"},
        {"name": "sidecar-0-data", "mountPath": "/agent", "readOnly": True},
    ]
    assert preflight() == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"oz-preflight-{HASH}-1a2b3c4d",
            "namespace": "default",
            "labels": labels,
            "annotations": {},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 360,
            "ttlSecondsAfterFinished": 60,
            "template": {
                "metadata": {"labels": labels, "annotations": {}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "restartPolicy": "Never",
                    "initContainers": [
                        {
                            "name": "copy-sidecar-0",
                            "image": "busybox:1.36",
                            "imagePullPolicy": "IfNotPresent",
                            "command": PASS,
                            "securityContext": {
                                "runAsUser": 0,
                                "runAsGroup": 0,
                                "runAsNonRoot": False,
                                "allowPrivilegeEscalation": False,
                            },
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "volumeMounts": [{"name": "sidecar-0-data", "mountPath": "/target"}],
                            "resources": SMALL,
                        }
                    ],
                    "containers": [
                        {
                            "name": "task",
                            "image": "busybox:1.36",
                            "imagePullPolicy": "IfNotPresent",
                            "command": PASS,
                            "workingDir": "/workspace",
                            "env": [],
                            "volumeMounts": mounts,
                            "resources": SMALL,
                        }
                    ],
                    "volumes": [
                        {"name": "workspace", "emptyDir": {}},
                        {"name": "sidecar-0-data", "emptyDir": {}},
                    ],
                },
            },
        },
    }


def test_the_template_is_kept_and_programs_are_not() -> None:
    job = preflight(
        preflight_image="registry.example/small:1",
        preflight_resources={"limits": {"memory": "8Mi"}},
        extra_labels={"team": "a"},
        extra_annotations={"note": "b"},
        image_pull_secrets=("registry",),
        service_account="agents",
        node_selector={"disk": "ssd"},
        tolerations=({"key": "gpu", "operator": "Exists"},),
        setup_command="make ready",
        teardown_command="make clean",
        pod_template={
            "priorityClassName": "low",
            "securityContext": {"fsGroup": 1000},
            "initContainers": [{"name": "proxy", "image": "proxy:2", "restartPolicy": "Always"}],
            "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
            "containers": [
                {
                    "name": "task",
                    "imagePullPolicy": "Always",
                    "args": ["x"],
                    "lifecycle": {"postStart": {"exec": {"command": ["agent-only"]}}},
                    "livenessProbe": {"exec": {"command": ["agent-only"]}},
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "envFrom": [{"configMapRef": {"name": "c"}}],
                    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                    "securityContext": {"readOnlyRootFilesystem": True},
                    "resources": {"requests": {"cpu": "16"}},
                }
            ],
        },
    )
    pod = pod_of(job)
    assert job["metadata"]["labels"]["team"] == job["spec"]["template"]["metadata"]["labels"]["team"] == "a"
    assert job["spec"]["template"]["metadata"]["annotations"] == {"note": "b"}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("agents", "low")
    assert (pod["nodeSelector"], pod["securityContext"]) == ({"disk": "ssd"}, {"fsGroup": 1000})
    assert [c["name"] for c in pod["initContainers"]] == ["copy-sidecar-0", "setup", "proxy"]
    assert pod["initContainers"][2] == {"name": "proxy", "image": "proxy:2", "restartPolicy": "Always"}
    (task,) = pod["containers"]
    assert task == {
        "name": "task",
        "image": "registry.example/small:1",
        "imagePullPolicy": "Always",
        "command": PASS,
        "workingDir": "/workspace",
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "sidecar-0-data", "mountPath": "/agent", "readOnly": True},
        ],
        "securityContext": {"readOnlyRootFilesystem": True},
        "resources": {"limits": {"memory": "8Mi"}},
    }
    setup = pod["initContainers"][1]
    assert (setup["command"], setup["image"], setup["env"]) == (PASS, "registry.example/small:1", task["env"])
    assert setup["resources"] == {"limits": {"memory": "8Mi"}}


def test_image_volumes_are_mounted_from_the_preflight_image() -> None:
    pod = pod_of(preflight(use_image_volumes=True))
    assert "initContainers" not in pod
    assert pod["volumes"][1] == {
        "name": "sidecar-0-image",
        "image": {"reference": "busybox:1.36", "pullPolicy": "IfNotPresent"},
    }


def test_no_variable_of_the_operator_and_no_secret_of_a_task_is_in_it() -> None:
    job = preflight(environment=(EnvEntry("TOKEN", "swordfish"),), task_env_secret=True)
    assert "swordfish" not in str(job)
    assert pod_of(job)["containers"][0]["env"] == []


def test_without_preflight_resources_the_containers_ask_for_none() -> None:
    pod = pod_of(preflight(preflight_resources={}, resources={"requests": {"cpu": "16"}}))
    assert all("resources" not in c for c in (*pod["initContainers"], *pod["containers"]))


def test_the_sample_is_a_task_to_the_last_field() -> None:
    config = KubernetesConfig(
        default_image="python:3.13", sidecar_image="agent:7", resources={"limits": {"cpu": "2"}}
    )
    job = build_sample_job(config, worker_id="w", cleanup=True, unique="1a2b3c4d")
    pod = pod_of(job)
    assert job["metadata"]["labels"]["oz-worker-hash"] == id_hash("w")
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    assert (pod["initContainers"][0]["image"], pod["containers"][0]["image"]) == ("agent:7", "python:3.13")
    assert pod["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
    assert pod["containers"][0]["args"] == ["agent", "run"]


def test_a_template_in_the_agents_place_is_refused_as_for_a_task() -> None:
    mounts = [{"name": "x", "mountPath": "/agent"}]
    template = {"containers": [{"name": "task", "volumeMounts": mounts}]}
    with pytest.raises(AssignmentError, match="/agent"):
        preflight(pod_template=template)
