"""The config file's keys, their defaults and what each one means.

A key is declared here and nowhere else. These dataclasses give decoding, validation, the hint at
the nearest key, the reference in the docs, and the chart's values (``scripts.chart_values``). A
field's ``shape`` decodes and checks its value; its ``doc`` is what the reference and the chart say.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from . import kubernetes_shapes as k8s
from . import shapes
from .shapes import EnvEntry, Shape

__all__ = [
    "BACKEND_SECTIONS",
    "BackendConfig",
    "CommandConfig",
    "DirectConfig",
    "DockerConfig",
    "FileConfig",
    "KubernetesConfig",
]

ImagePullPolicy = Literal["Always", "Never", "IfNotPresent"]

_PREFLIGHT_RESOURCES: Final[Mapping[str, Any]] = {
    "requests": {"cpu": "10m", "memory": "16Mi"},
    "limits": {"cpu": "100m", "memory": "64Mi"},
}


def key(shape: Shape[Any], doc: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a key with its meaning in Markdown. Without a default the key is required."""
    metadata = {"shape": shape, "doc": doc}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_COMMAND = shapes.text()
_IMAGE = shapes.word()
_ENVIRONMENT = shapes.environment()


@dataclass(frozen=True, kw_only=True)
class DockerConfig:
    """``backend.docker``: each task in a container of the local Docker engine."""

    volumes: tuple[str, ...] = key(shapes.list_of(shapes.volume()), "Mounts, [HOST:]CONTAINER[:OPTIONS].", ())
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Variables for the task.", ())


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """``backend.direct``: each task as a process group on this host."""

    workspace_root: str = key(
        shapes.text(), "Folder with a workspace for each task.", "/var/lib/oz/workspaces"
    )
    target_dir: str | None = key(shapes.text(), "Run every task in this folder.", None)
    oz_path: str | None = key(
        shapes.text(), "The agent's program. Default: `oz` on PATH, else the bundled `oz-agent`.", None
    )
    setup_command: str | None = key(_COMMAND, "Shell command before each task.", None)
    teardown_command: str | None = key(_COMMAND, "Shell command after each task.", None)
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Variables for the task.", ())


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """``backend.command``: each task handed to an operator's command."""

    dispatch_command: str = key(_COMMAND, "Shell command that takes a task.")
    cancel_command: str | None = key(_COMMAND, "Shell command that cancels a task.", None)
    dispatch_timeout: float = key(
        shapes.duration(zero=60.0), "How long a dispatch may take; 0s or less is 60s.", 60.0
    )
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Variables for the commands.", ())


@dataclass(frozen=True, kw_only=True)
class KubernetesConfig:
    """``backend.kubernetes``: each task as a Job in one namespace."""

    namespace: str = key(k8s.dns_label(), "Namespace of the tasks' Jobs, which must exist.", "default")
    kubeconfig: str | None = key(
        shapes.text(),
        "A kubeconfig file. Default: the Pod's service account where one is mounted, otherwise"
        " `KUBECONFIG` or `~/.kube/config`, with the current context.",
        None,
    )
    default_image: str | None = key(_IMAGE, "Image of a task that names none. Default: `ubuntu:22.04`.", None)
    preflight_image: str = key(
        _IMAGE, "Image of the start-up preflight Job, which needs `/bin/sh`.", "busybox:1.36"
    )
    sidecar_image: str | None = key(
        _IMAGE, "Replaces the agent's image of an assignment that names one.", None
    )
    image_pull_policy: ImagePullPolicy = key(
        shapes.choice("Always", "Never", "IfNotPresent"),
        "Pull policy of the task's image and of sidecars. A policy in the template's container `task` wins.",
        "IfNotPresent",
    )
    use_image_volumes: bool = key(
        shapes.boolean(),
        "Mount sidecars as read-only image volumes instead of copying them with init containers that run"
        " as root. Needs Kubernetes 1.35 or newer, or its feature gate. A sidecar that asks to be writable is"
        " refused.",
        False,
    )
    coding_cli_sidecars: Mapping[str, str] = key(
        shapes.mapping_of(_IMAGE),
        "Harness name to the image of its command-line program, which runs of that harness get at"
        " `/mnt/<harness>-cli-sidecar`.",
        {},
    )
    setup_command: str | None = key(
        _COMMAND,
        "Shell command before the task, in an init container with the task's image, variables and mounts."
        " Lines `KEY=VALUE` in `$OZ_ENVIRONMENT_FILE` become variables of the task.",
        None,
    )
    teardown_command: str | None = key(
        _COMMAND,
        "Shell command after the task, in its container. It runs once, after success and failure, and does"
        " not change the exit code.",
        None,
    )
    extra_labels: Mapping[str, str] = key(
        k8s.labels(), "Labels on Jobs and Pods; the worker's own (`oz-…`) win.", {}
    )
    extra_annotations: Mapping[str, str] = key(
        k8s.annotations(),
        "Annotations on Jobs and Pods; the worker's own (`oz.warp.dev/…`) win.",
        {},
    )
    active_deadline_seconds: int | None = key(
        k8s.deadline(),
        "The longest that a Job may take, in seconds, including waiting, pulling and every attempt. 0 ends"
        " every Job at once.",
        None,
    )
    ttl_seconds_after_finished: int = key(
        shapes.integer(minimum=0),
        "How long a finished Job stays, in seconds. A successful Job is deleted as soon as its result is"
        " delivered. With `cleanup` off all Jobs stay.",
        86400,
    )
    retry_on_disruption: int = key(
        shapes.integer(minimum=0),
        "How often a task starts again from the beginning after its Pod was evicted, preempted or drained."
        " A failure of the task itself is never retried.",
        0,
    )
    workspace_size_limit: str | None = key(
        k8s.quantity(),
        "Size limit of `/workspace`, such as 10Gi; a Pod that exceeds it is evicted. Not allowed with a"
        " volume `workspace` in the template.",
        None,
    )
    unschedulable_timeout: float = key(
        shapes.duration(),
        "How long a task may wait for a node, or for room in a quota; 0s or less is no limit.",
        30.0,
    )
    scale_up_timeout: float = key(
        shapes.duration(),
        "How long a Pod may wait for a node after an autoscaler has announced one.",
        600.0,
    )
    pull_grace: float = key(
        shapes.duration(),
        "How long pulling an image, mounting a volume or creating a container may fail for a cause that may"
        " pass.",
        60.0,
    )
    pod_template: Mapping[str, Any] = key(
        k8s.pod_template(),
        "A PodSpec, the base of every task's Pod. A container named `task` in it customises the task's"
        " container.",
        {},
    )
    preflight_resources: Mapping[str, Any] = key(
        k8s.resources(), "ResourceRequirements of the preflight Job.", _PREFLIGHT_RESOURCES
    )
    preflight_unschedulable: Literal["fail", "warn"] = key(
        shapes.choice("fail", "warn"),
        "What happens if no node takes the preflight Pod in time. Use `warn` where an autoscaler adds nodes.",
        "fail",
    )
    service_account: str | None = key(shapes.word(), "Shorthand for `pod_template.serviceAccountName`.", None)
    image_pull_secrets: tuple[str, ...] = key(
        shapes.list_of(shapes.word()),
        "Names; shorthand for `pod_template.imagePullSecrets`.",
        (),
    )
    node_selector: Mapping[str, str] = key(
        shapes.mapping_of(shapes.text(empty_is_none=False)), "Shorthand for `pod_template.nodeSelector`.", {}
    )
    tolerations: tuple[Mapping[str, Any], ...] = key(
        shapes.list_of(shapes.raw_mapping()), "Shorthand for `pod_template.tolerations`.", ()
    )
    resources: Mapping[str, Any] = key(
        k8s.resources(), "Shorthand for `resources` of the template's container `task`.", {}
    )
    termination_grace_period_seconds: int | None = key(
        shapes.integer(minimum=0), "Shorthand for `pod_template.terminationGracePeriodSeconds`.", None
    )
    environment: tuple[EnvEntry, ...] = key(
        _ENVIRONMENT,
        "Shorthand for `env` of the template's container `task`. An entry without a value passes the worker's"
        " own value on. The assignment's variables win.",
        (),
    )
    task_env_secret: bool = key(
        shapes.boolean(),
        "Keep the variables of assignment and operator in a Secret that the Job owns, instead of in the Pod's"
        " spec. Needs the permission to create secrets.",
        False,
    )
    evidence_dir: str | None = key(
        shapes.text(),
        "Folder in which the worker keeps a bundle of evidence (`collect`) of each task that fails, the"
        " newest 100. Default: no bundles.",
        None,
    )


BackendConfig = DockerConfig | DirectConfig | CommandConfig | KubernetesConfig


#: The sections under ``backend``, of which a worker has one.
BACKEND_SECTIONS: Final[Mapping[str, type[BackendConfig]]] = {
    "docker": DockerConfig,
    "direct": DirectConfig,
    "kubernetes": KubernetesConfig,
    "command": CommandConfig,
}


@dataclass(frozen=True, kw_only=True)
class FileConfig:
    """The config file as a whole."""

    worker_id: str | None = key(
        shapes.text(), "This worker's ID. IDs that begin with `warp` are reserved.", None
    )
    cleanup: bool = key(
        shapes.boolean(), "Remove Jobs, containers and workspaces that are no longer needed.", True
    )
    max_concurrent_tasks: int = key(
        shapes.count(), "How many tasks run at a time; 0 or less is unlimited.", 0
    )
    idle_on_complete: str | None = key(
        shapes.humantime(),
        "How long the agent stays after its task, such as 45m. Default: the agent's own choice.",
        None,
    )
    strict: bool = key(
        shapes.boolean(),
        "Refuse what is otherwise a warning (exit code 2). The public worker does not know this key.",
        False,
    )
    backend: Mapping[str, BackendConfig] = key(shapes.sections(BACKEND_SECTIONS), "The backend.", {})
