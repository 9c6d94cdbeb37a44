"""The Jobs that show before the first task whether tasks can run, as plain data.

The sample Job equals the Job of a task, and is only sent as a dry run. The preflight Job has the same
Pod with small programs in it, and is run.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AGENT_MOUNT_PATH, InstanceShape, Sidecar
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.manifest.job import SETUP_CONTAINER, plan_job
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import preflight_job_name, preflight_labels
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import (
    TASK_CONTAINER,
    base_pod,
    task_container_of,
)
from oz_agent_worker.worker.backends.kubernetes.manifest.sidecars import COPY_CONTAINER_PREFIX
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import FALLBACK_IMAGE, TaskSpec

__all__ = ["LEFTOVER_TTL", "build_preflight_job", "build_sample_job", "is_own_container"]

#: After how many seconds the cluster removes an ended preflight Job that its worker could not delete.
LEFTOVER_TTL: Final = 60

_COMMAND: Final = ("/bin/sh", "-c", "exit 0")
#: Fields for the task's program, which the preflight Job does not run.
_PROGRAM_FIELDS: Final = ("args", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


def build_sample_job(
    config: KubernetesConfig, *, worker_id: str, cleanup: bool, unique: str
) -> dict[str, Any]:
    """Build the Job of a typical task, which has the agent's sidecar.

    Raises:
        AssignmentError: no task's Job could be made with this configuration.
    """
    image = config.default_image or FALLBACK_IMAGE
    spec = _sample_task(image, config.sidecar_image or config.preflight_image, unique)
    return plan_job(spec, config, worker_id=worker_id, cleanup=cleanup, unique=unique).job


def build_preflight_job(
    config: KubernetesConfig, *, worker_id: str, unique: str, deadline: int
) -> dict[str, Any]:
    """Build the preflight Job; the cluster ends it after ``deadline`` seconds.

    It has template, volumes, security contexts, service account, pull secrets and the sidecar's init
    container of a task. The worker's own containers have other images, commands, resources and
    variables: the operator's ``environment`` may hold secrets that a preflight does not need.

    Raises:
        AssignmentError: no task's Job could be made with this configuration.
    """
    # With task_env_secret the Pod would wait for a Secret.
    plain = replace(config, environment=(), task_env_secret=False)
    spec = _sample_task(config.preflight_image, config.preflight_image, unique)
    job = plan_job(spec, plain, worker_id=worker_id, cleanup=True, unique=unique).job
    pod = job["spec"]["template"]["spec"]
    template = task_container_of(base_pod(plain))
    assert template is not None
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        if is_own_container(container["name"]):
            _pass(container, template, config)
    labels = {**config.extra_labels, **preflight_labels(worker_id)}
    metadata = {"labels": labels, "annotations": dict(config.extra_annotations)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": preflight_job_name(worker_id, unique),
            "namespace": config.namespace,
            **metadata,
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": LEFTOVER_TTL,
            "template": {"metadata": {k: dict(v) for k, v in metadata.items()}, "spec": pod},
        },
    }


def _sample_task(image: str, sidecar: str, unique: str) -> TaskSpec:
    return TaskSpec(
        key=ExecutionKey(f"preflight-{unique}", unique),
        title="Preflight",
        arguments=("agent", "run"),
        environment={},
        image=image,
        sidecars=(Sidecar(sidecar, AGENT_MOUNT_PATH),),
        shape=InstanceShape(),
        harness=None,
    )


def is_own_container(container: str) -> bool:
    """Whether a container of this name is the worker's own, and not the template's."""
    return container in {TASK_CONTAINER, SETUP_CONTAINER} or container.startswith(COPY_CONTAINER_PREFIX)


def _pass(container: dict[str, Any], template: Mapping[str, Any], config: KubernetesConfig) -> None:
    """Make one of the worker's containers succeed at once."""
    for field in _PROGRAM_FIELDS:
        container.pop(field, None)
    container["image"] = config.preflight_image
    container["command"] = list(_COMMAND)
    if "env" in container:
        container["env"] = list(template["env"])
    if config.preflight_resources:
        container["resources"] = dict(config.preflight_resources)
    else:
        container.pop("resources", None)
