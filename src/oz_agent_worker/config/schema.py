"""The config file's keys, their defaults and what each one means.

This is the one place where a key stands: decoding, validation, the nearest-key hint
and the generated reference are all read from these dataclasses. A field's ``shape``
decodes and checks its value; its ``doc`` is the reference's text.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from . import shapes
from .shapes import EnvEntry, Shape

__all__ = [
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
    """Declare a key. Without a default the key is required."""
    metadata = {"shape": shape, "doc": doc}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_COMMAND = shapes.text()
_IMAGE = shapes.text(no_space=True)
_ENVIRONMENT = shapes.environment()


@dataclass(frozen=True, kw_only=True)
class DockerConfig:
    """``backend.docker``: each task in a container of the local Docker engine."""

    volumes: tuple[str, ...] = key(shapes.list_of(shapes.volume()), "Mounts, HOST:CONTAINER[:ro or rw].", ())
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Variables for the task.", ())


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """``backend.direct``: each task as a process group on this host."""

    workspace_root: str = key(
        shapes.text(), "Folder that holds a workspace a task.", "/var/lib/oz/workspaces"
    )
    target_dir: str | None = key(shapes.text(), "Run every task in this folder.", None)
    oz_path: str | None = key(shapes.text(), "The agent's program; else `oz` on PATH.", None)
    setup_command: str | None = key(_COMMAND, "Shell command before each task.", None)
    teardown_command: str | None = key(_COMMAND, "Shell command after each task.", None)
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Variables for the task.", ())


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """``backend.command``: each task handed to an operator's command."""

    dispatch_command: str = key(_COMMAND, "Shell command that takes a task.")
    cancel_command: str | None = key(_COMMAND, "Shell command that cancels a task.", None)
    dispatch_timeout: float = key(shapes.duration(), "Time that a dispatch may take.", 60.0)
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Variables for the commands.", ())


@dataclass(frozen=True, kw_only=True)
class KubernetesConfig:
    """``backend.kubernetes``: each task as a Job in one namespace."""

    namespace: str = key(shapes.dns_label(), "Namespace of the task Jobs.", "default")
    kubeconfig: str | None = key(
        shapes.text(),
        "A kubeconfig file; else the Pod's service account; else the usual kubeconfig rules.",
        None,
    )
    default_image: str | None = key(_IMAGE, "Image of a task that names none.", None)
    preflight_image: str = key(_IMAGE, "Image of the start-up preflight Job.", "busybox:1.36")
    sidecar_image: str | None = key(_IMAGE, "Replaces the assignment's agent image.", None)
    image_pull_policy: ImagePullPolicy = key(
        shapes.choice("Always", "Never", "IfNotPresent"), "Pull policy of the task's images.", "IfNotPresent"
    )
    use_image_volumes: bool = key(
        shapes.boolean(), "Mount sidecars as image volumes, without root init containers.", False
    )
    coding_cli_sidecars: Mapping[str, str] = key(
        shapes.mapping_of(_IMAGE), "Harness name to the image of its command-line program.", {}
    )
    setup_command: str | None = key(_COMMAND, "Shell command before the task, in its Pod.", None)
    teardown_command: str | None = key(_COMMAND, "Shell command after the task, in its Pod.", None)
    extra_labels: Mapping[str, str] = key(
        shapes.mapping_of(shapes.label_value()), "Labels on Jobs and Pods.", {}
    )
    extra_annotations: Mapping[str, str] = key(
        shapes.mapping_of(shapes.text(empty_is_none=False)), "Annotations on Jobs and Pods.", {}
    )
    active_deadline_seconds: int | None = key(
        shapes.integer(minimum=1), "The longest that a Job may run, in seconds.", None
    )
    ttl_seconds_after_finished: int = key(
        shapes.integer(minimum=0), "How long a finished Job stays, in seconds.", 86400
    )
    retry_on_disruption: int = key(
        shapes.integer(minimum=0),
        "How often a Pod that was evicted, preempted or drained is started again; the task must bear it.",
        0,
    )
    workspace_size_limit: str | None = key(shapes.quantity(), "Size limit of the workspace volume.", None)
    unschedulable_timeout: float = key(
        shapes.duration(), "How long a Pod may stay unschedulable; 0s turns it off.", 30.0
    )
    pod_template: Mapping[str, Any] = key(
        shapes.raw_mapping(), "A PodSpec; its container `task` customises the main container.", {}
    )
    preflight_resources: Mapping[str, Any] = key(
        shapes.raw_mapping(), "ResourceRequirements of the preflight Job.", _PREFLIGHT_RESOURCES
    )
    preflight_unschedulable: Literal["fail", "warn"] = key(
        shapes.choice("fail", "warn"),
        "What a preflight Pod means that no node takes in time; `warn` where an autoscaler adds nodes.",
        "fail",
    )
    service_account: str | None = key(
        shapes.text(no_space=True), "Shorthand for pod_template.serviceAccountName.", None
    )
    image_pull_secrets: tuple[str, ...] = key(
        shapes.list_of(shapes.text(no_space=True)), "Shorthand for pod_template.imagePullSecrets.", ()
    )
    node_selector: Mapping[str, str] = key(
        shapes.mapping_of(shapes.text(empty_is_none=False)), "Shorthand for pod_template.nodeSelector.", {}
    )
    tolerations: tuple[Mapping[str, Any], ...] = key(
        shapes.list_of(shapes.raw_mapping()), "Shorthand for pod_template.tolerations.", ()
    )
    resources: Mapping[str, Any] = key(
        shapes.raw_mapping(), "Shorthand for the task container's resources.", {}
    )
    termination_grace_period_seconds: int | None = key(
        shapes.integer(minimum=0), "Shorthand for pod_template.terminationGracePeriodSeconds.", None
    )
    environment: tuple[EnvEntry, ...] = key(_ENVIRONMENT, "Shorthand for the task container's env.", ())
    task_env_secret: bool = key(
        shapes.boolean(),
        "Keep the task's variables in a Secret that its Job owns; needs `create` on secrets.",
        False,
    )


BackendConfig = DockerConfig | DirectConfig | CommandConfig | KubernetesConfig


@dataclass(frozen=True, kw_only=True)
class BackendsConfig:
    """``backend``: at most one of these."""

    docker: DockerConfig | None = key(shapes.section(DockerConfig), "Docker containers.", None)
    direct: DirectConfig | None = key(shapes.section(DirectConfig), "Processes on this host.", None)
    command: CommandConfig | None = key(shapes.section(CommandConfig), "An operator's command.", None)
    kubernetes: KubernetesConfig | None = key(shapes.section(KubernetesConfig), "Kubernetes Jobs.", None)


@dataclass(frozen=True, kw_only=True)
class FileConfig:
    """The config file as a whole."""

    worker_id: str | None = key(shapes.text(), "This worker's ID.", None)
    cleanup: bool = key(shapes.boolean(), "Remove Jobs, containers and workspaces.", True)
    max_concurrent_tasks: int = key(shapes.integer(minimum=0), "0 is unlimited.", 0)
    idle_on_complete: str | None = key(
        shapes.humantime(), "How long the agent stays after its task, such as 45m.", None
    )
    backend: BackendsConfig = key(shapes.section(BackendsConfig), "The backend.", BackendsConfig())
