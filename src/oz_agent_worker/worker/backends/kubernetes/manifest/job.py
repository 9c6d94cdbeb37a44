"""The Job of an execution, as plain data for the API server. Pure.

Equal input gives an equal manifest, in the same order. The manifest, or the Secret that goes
with it (``env_secret``), holds the task's secrets in clear: never log either.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import environment_of
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import WORKSPACE, TaskSpec

from .env_secret import build_environment_secret, check_variables, secret_references, task_variables
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
from .sidecars import normal_path, sidecar_parts
from .size_limits import check_job_size, check_task_size

__all__ = ["SETUP_CONTAINER", "JobPlan", "plan_job"]

#: The init container that runs the operator's setup command.
SETUP_CONTAINER: Final = "setup"
#: Fields that the setup container shares with the task, so that both can use each other's files and
#: a policy that admits one admits both.
_SHARED_WITH_SETUP: Final = (
    "image",
    "imagePullPolicy",
    "workingDir",
    "envFrom",
    "resources",
    "securityContext",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """All that the worker creates in the cluster for one execution.

    ``job`` is the manifest (batch/v1, Job), ``variables`` the values for its environment Secret.
    ``owner`` is the worker process that creates the Job, ``None`` where the Job names none.
    """

    key: ExecutionKey
    name: str
    namespace: str
    owner: str | None
    job: dict[str, Any] = field(repr=False)
    variables: Mapping[str, Secret]
    secret_name: str | None
    """The Secret that the Pod reads its variables from; ``None`` where they are in the Pod's spec."""

    def environment_secret(self, name: str, job_uid: str) -> dict[str, Any]:
        """Write the Secret ``name`` (core/v1) for the Job with the UID ``job_uid``.

        An adopted Job names its own Secret, which may be another than ``secret_name``.
        """
        return build_environment_secret(self.variables, self.job, name=name, uid=job_uid)


def plan_job(
    spec: TaskSpec,
    config: KubernetesConfig,
    *,
    worker_id: str,
    cleanup: bool,
    unique: str = "",
    owner: str | None = None,
) -> JobPlan:
    """Plan the Job of an execution and its environment Secret.

    ``config.environment`` entries without a value are left out: the configuration
    resolves them from the worker's own environment beforehand. With ``cleanup`` off
    the Job has no TTL: it stays until someone deletes it. ``unique`` (a-z, 0-9) distinguishes the
    Secret from the one of an earlier Job with the same name.

    Raises:
        AssignmentError: a sidecar cannot be mounted, or the template is unusable.
        TaskTooLargeError: an argument, a variable, the Secret or the Job is too large.
    """
    for path, problem in template_problems(config.pod_template):
        raise AssignmentError(f"backend.kubernetes.{path}: {problem}")
    key = spec.key
    variables = task_variables(spec, config)
    secret = environment_secret_name(key, unique) if config.task_env_secret else None
    if secret is not None:
        check_variables(variables)
    # Labels and annotations by which the worker finds its Jobs win over the operator's.
    labels = {**config.extra_labels, **task_labels(worker_id, key)}
    annotations = {**config.extra_annotations, **task_annotations(key)}
    job_only = {ANNOTATION_ENVIRONMENT_SECRET: secret, ANNOTATION_OWNER: owner}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(key),
            "namespace": config.namespace,
            "labels": labels,
            "annotations": annotations | {k: v for k, v in job_only.items() if v is not None},
        },
        "spec": {
            **job_limits(config, cleanup=cleanup),
            "template": {
                "metadata": {"labels": dict(labels), "annotations": dict(annotations)},
                "spec": _pod(spec, config, variables, secret),
            },
        },
    }
    check_job_size(job, spec.arguments, variables, in_job=secret is None)
    return JobPlan(
        key=key,
        name=job_name(key),
        namespace=config.namespace,
        owner=owner,
        job=job,
        variables=variables,
        secret_name=secret,
    )


def _pod(
    spec: TaskSpec, config: KubernetesConfig, variables: Mapping[str, Secret], secret: str | None
) -> dict[str, Any]:
    """Write the PodSpec: the template with what the task needs (core/v1, PodSpec)."""
    pod = base_pod(config)
    task = task_container_of(pod)
    assert task is not None
    resources = with_shape(task.get("resources") or {}, spec.shape)
    parts = sidecar_parts(spec.sidecars, config, resources)
    mounts = [{"name": WORKSPACE_VOLUME, "mountPath": WORKSPACE}, *parts.mounts]
    own = {
        "OZ_ENVIRONMENT_FILE": ENVIRONMENT_FILE,
        "OZ_RUN_ID": spec.key.task_id,
        "OZ_WORKER_BACKEND": "kubernetes",
        "OZ_WORKSPACE_ROOT": WORKSPACE,
    }
    check_task_size(
        task_script(config.teardown_command), spec.arguments, environment_of(spec, own), task["env"]
    )
    environment = merge_environment(environment_of(spec, own), task["env"])
    if secret is not None:
        environment = secret_references(environment, variables.keys() - own.keys(), secret)
    task.update(
        image=spec.image,
        imagePullPolicy=task.get("imagePullPolicy") or config.image_pull_policy,
        command=["/bin/sh", "-c", escape_expansion(task_script(config.teardown_command)), "oz-task"],
        args=[escape_expansion(argument) for argument in spec.arguments],
        workingDir=WORKSPACE,
        env=environment,
        volumeMounts=_joined_mounts(task.get("volumeMounts") or [], mounts),
    )
    if resources:
        task["resources"] = resources
    setup = [_setup_container(task, config.setup_command)] if config.setup_command else []
    pod["restartPolicy"] = "Never"
    pod["initContainers"] = [*parts.init_containers, *setup, *pod["initContainers"]]
    pod["volumes"] = [*pod["volumes"], *_workspace(pod, config), *parts.volumes]
    if not pod["initContainers"]:
        del pod["initContainers"]
    return pod


def _workspace(pod: Mapping[str, Any], config: KubernetesConfig) -> list[dict[str, Any]]:
    if any(volume["name"] == WORKSPACE_VOLUME for volume in pod["volumes"]):
        return []
    limit = {"sizeLimit": config.workspace_size_limit} if config.workspace_size_limit else {}
    return [{"name": WORKSPACE_VOLUME, "emptyDir": limit}]


def _joined_mounts(template: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    taken = {normal_path(str(mount.get("mountPath", ""))) for mount in template}
    for mount in own:
        if mount["mountPath"] in taken:
            raise AssignmentError(
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
