"""The Job of an execution, as plain data for the API server.

Pure and deterministic: equal input gives an equal manifest, in the same order. The
secrets of the task's environment stand revealed in it (or in its Secret, ``envsecret``),
so it is never logged.
"""

import posixpath
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import environment_of
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import WORKSPACE, TaskSpec, check_sidecars

from .env_secret import check_variables, moved_to_secret, task_variables
from .job_limits import job_limits
from .naming import (
    ANNOTATION_ENVIRONMENT_SECRET,
    ANNOTATION_OWNER,
    environment_secret_name,
    job_name,
    task_annotations,
    task_labels,
)
from .pod_template import (
    WORKSPACE_VOLUME,
    base_pod,
    escape_expansion,
    merge_environment,
    task_container_of,
    template_problems,
    with_shape,
)
from .scripts import ENVIRONMENT_FILE, task_script
from .sidecars import SidecarParts, copied_sidecars, image_volume_sidecars

__all__ = ["SETUP_CONTAINER", "ManifestError", "build_job"]

#: The init container that runs the operator's setup command.
SETUP_CONTAINER: Final = "setup"
#: What the setup container has in common with the task, so that files which one leaves
#: are the other's, and a policy that admits one admits both.
_SHARED_WITH_SETUP: Final = (
    "image",
    "imagePullPolicy",
    "workingDir",
    "envFrom",
    "resources",
    "securityContext",
)


class ManifestError(AssignmentError):
    """No Job can be made of this assignment with this configuration."""


def build_job(
    spec: TaskSpec,
    config: KubernetesConfig,
    *,
    worker_id: str,
    cleanup: bool,
    unique: str = "",
    owner: str | None = None,
) -> dict[str, Any]:
    """Write the Job of an execution (batch/v1, Job).

    ``config.environment`` entries without a value are left out: the configuration
    resolves them from the worker's own environment beforehand. With ``cleanup`` off
    the Job has no TTL: it stays until someone deletes it. ``unique`` (a-z, 0-9) tells the
    Secret of ``config.task_env_secret`` from one that belonged to an earlier Job of the name.
    ``owner`` is the worker process that is to create the Job; without one, it is nobody's.

    Raises:
        ManifestError: a sidecar cannot be mounted, the template is unusable, or the
            variables fit into no Secret.
    """
    key = ExecutionKey(spec.task_id, spec.execution_id)
    secret = environment_secret_name(key, unique) if config.task_env_secret else None
    # Extra labels and annotations come first: what the worker finds its Jobs by wins.
    labels = {**config.extra_labels, **task_labels(worker_id, key)}
    annotations = {**config.extra_annotations, **task_annotations(key)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(key),
            "namespace": config.namespace,
            "labels": labels,
            "annotations": {**annotations, **_of_the_job(secret, owner)},
        },
        "spec": {
            **job_limits(config, cleanup=cleanup),
            "template": {
                "metadata": {"labels": dict(labels), "annotations": dict(annotations)},
                "spec": build_pod(spec, config, secret=secret),
            },
        },
    }


def _of_the_job(secret: str | None, owner: str | None) -> dict[str, str]:
    """The annotations that its Pods do not have."""
    noted = {ANNOTATION_ENVIRONMENT_SECRET: secret, ANNOTATION_OWNER: owner}
    return {name: value for name, value in noted.items() if value is not None}


def build_pod(spec: TaskSpec, config: KubernetesConfig, *, secret: str | None = None) -> dict[str, Any]:
    """Write the PodSpec of an execution: the template with what the task needs.

    The task's variables stand in it, or are read from the Secret named ``secret``.
    """
    for path, problem in template_problems(config.pod_template):
        raise ManifestError(f"backend.kubernetes.{path}: {problem}")
    pod = base_pod(config)
    task = task_container_of(pod)
    assert task is not None
    resources = with_shape(task.get("resources") or {}, spec.shape)
    parts = _sidecar_parts(spec, config, resources)
    mounts = [{"name": WORKSPACE_VOLUME, "mountPath": WORKSPACE}, *parts.mounts]
    _complete_task(task, spec, config, resources, mounts)
    if secret is not None:
        task["env"] = _moved_variables(task["env"], spec, config, secret)
    setup = [_setup_container(task, config.setup_command)] if config.setup_command else []
    pod["restartPolicy"] = "Never"
    pod["initContainers"] = [*parts.init_containers, *setup, *pod["initContainers"]]
    pod["volumes"] = [*pod["volumes"], *_workspace(pod, config), *parts.volumes]
    if not pod["initContainers"]:
        del pod["initContainers"]
    return pod


def _sidecar_parts(spec: TaskSpec, config: KubernetesConfig, resources: Mapping[str, Any]) -> SidecarParts:
    try:
        check_sidecars(spec.sidecars)
        sidecars = [replace(s, mount_path=_normal(s.mount_path)) for s in spec.sidecars]
        check_sidecars(sidecars)
        if config.use_image_volumes:
            return image_volume_sidecars(sidecars, config.image_pull_policy)
    except AssignmentError as error:
        raise ManifestError(str(error)) from error
    return copied_sidecars(sidecars, config.image_pull_policy, resources)


def _normal(path: str) -> str:
    """One spelling for a path: ``/workspace/.`` is the workspace too."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _workspace(pod: Mapping[str, Any], config: KubernetesConfig) -> list[dict[str, Any]]:
    if any(volume["name"] == WORKSPACE_VOLUME for volume in pod["volumes"]):
        return []
    limit = {"sizeLimit": config.workspace_size_limit} if config.workspace_size_limit else {}
    return [{"name": WORKSPACE_VOLUME, "emptyDir": limit}]


def _complete_task(
    task: dict[str, Any],
    spec: TaskSpec,
    config: KubernetesConfig,
    resources: dict[str, Any],
    mounts: list[dict[str, Any]],
) -> None:
    """Make the template's container ``task`` the one that runs the agent."""
    own = environment_of(spec, _own_variables(spec))
    task.update(
        image=spec.image,
        imagePullPolicy=task.get("imagePullPolicy") or config.image_pull_policy,
        command=["/bin/sh", "-c", escape_expansion(task_script(config.teardown_command)), "oz-task"],
        args=[escape_expansion(argument) for argument in spec.arguments],
        workingDir=WORKSPACE,
        env=merge_environment(own, task["env"]),
        volumeMounts=_joined_mounts(task.get("volumeMounts") or [], mounts),
    )
    if resources:
        task["resources"] = resources


def _own_variables(spec: TaskSpec) -> dict[str, str]:
    """What the backend itself tells the agent."""
    return {
        "OZ_ENVIRONMENT_FILE": ENVIRONMENT_FILE,
        "OZ_RUN_ID": spec.task_id,
        "OZ_WORKER_BACKEND": "kubernetes",
        "OZ_WORKSPACE_ROOT": WORKSPACE,
    }


def _moved_variables(
    entries: list[dict[str, Any]], spec: TaskSpec, config: KubernetesConfig, secret: str
) -> list[dict[str, Any]]:
    variables = task_variables(spec, config)
    try:
        check_variables(variables)
    except AssignmentError as error:
        raise ManifestError(str(error)) from error
    return moved_to_secret(entries, variables, secret, kept=_own_variables(spec))


def _joined_mounts(template: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    taken = {_normal(str(mount.get("mountPath", ""))) for mount in template}
    for mount in own:
        if mount["mountPath"] in taken:
            raise ManifestError(
                f"pod_template mounts a volume at {mount['mountPath']}, where a sidecar belongs"
            )
    return [*template, *own]


def _setup_container(task: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The init container of the setup command: the task's image, environment and mounts."""
    container: dict[str, Any] = {"name": SETUP_CONTAINER}
    container.update({field: task[field] for field in _SHARED_WITH_SETUP if task.get(field) is not None})
    container.update(
        command=["/bin/sh", "-c", escape_expansion(command)],
        env=task["env"],
        volumeMounts=task["volumeMounts"],
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    return deepcopy(container)
