"""The config file's keys, their defaults and what each one means.

This is the one place where a key stands: decoding, validation, the nearest-key hint
and the generated reference are all read from these dataclasses. A field's ``shape``
decodes and checks its value; its ``doc`` is the reference's text.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from . import object_meta, shapes
from .resources import resources
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

    namespace: str = key(shapes.dns_label(), "Namespace of the tasks' Jobs; it must exist.", "default")
    kubeconfig: str | None = key(
        shapes.text(),
        "A kubeconfig file; else the Pod's service account where one is mounted; else `KUBECONFIG`,"
        " `~/.kube/config` and the current context.",
        None,
    )
    default_image: str | None = key(_IMAGE, "Image of a task that names none; else `ubuntu:22.04`.", None)
    preflight_image: str = key(
        _IMAGE, "Image of the start-up preflight Job, which needs `/bin/sh`.", "busybox:1.36"
    )
    sidecar_image: str | None = key(
        _IMAGE, "Replaces the agent's image, where an assignment names one.", None
    )
    image_pull_policy: ImagePullPolicy = key(
        shapes.choice("Always", "Never", "IfNotPresent"),
        "Pull policy of the task's image and of sidecars; the template's own for its container `task` wins.",
        "IfNotPresent",
    )
    use_image_volumes: bool = key(
        shapes.boolean(),
        "Mount sidecars as image volumes, read-only, in place of copying them with init containers that run"
        " as root. A sidecar that asks to be written to is refused.",
        False,
    )
    coding_cli_sidecars: Mapping[str, str] = key(
        shapes.mapping_of(_IMAGE),
        "Harness name to the image of its command-line program, mounted at `/mnt/<harness>-cli-sidecar` for"
        " runs of that harness.",
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
        "Shell command after the task, in its container: once, whatever the exit code, which it does not"
        " change.",
        None,
    )
    extra_labels: Mapping[str, str] = key(
        object_meta.labels(), "Labels on Jobs and Pods; the worker's own (`oz-…`) win.", {}
    )
    extra_annotations: Mapping[str, str] = key(
        object_meta.annotations(), "Annotations on Jobs and Pods; the worker's own (`oz.warp.dev/…`) win.", {}
    )
    active_deadline_seconds: int | None = key(
        shapes.integer(minimum=1),
        "The longest that a Job may take in seconds: waiting, pulling and every attempt included.",
        None,
    )
    ttl_seconds_after_finished: int = key(
        shapes.integer(minimum=0),
        "How long a finished Job stays, in seconds. A successful one goes as soon as its result is"
        " delivered. Without effect where `cleanup` is off: then Jobs stay.",
        86400,
    )
    retry_on_disruption: int = key(
        shapes.integer(minimum=0),
        "How often a Pod that was evicted, preempted or drained is started again, from the beginning; a"
        " failure of the task itself never is.",
        0,
    )
    workspace_size_limit: str | None = key(
        shapes.quantity(),
        "Size limit of `/workspace`; a Pod that exceeds it is evicted. Not together with a volume `workspace`"
        " in the template.",
        None,
    )
    unschedulable_timeout: float = key(
        shapes.duration(),
        "How long a Pod may stay without a node, or without room in a quota; 0s is without end.",
        30.0,
    )
    scale_up_timeout: float = key(
        shapes.duration(),
        "How long a Pod may stay without a node once an autoscaler says that it adds one.",
        600.0,
    )
    pull_grace: float = key(
        shapes.duration(),
        "How long an image may fail to be pulled, a volume to be mounted, or a container to be created,"
        " where the cause may pass.",
        60.0,
    )
    pod_template: Mapping[str, Any] = key(
        shapes.raw_mapping(),
        "A PodSpec, the base of every task's Pod; its container `task`, where there is one, customises the"
        " task's own.",
        {},
    )
    preflight_resources: Mapping[str, Any] = key(
        resources(), "ResourceRequirements of the preflight Job.", _PREFLIGHT_RESOURCES
    )
    preflight_unschedulable: Literal["fail", "warn"] = key(
        shapes.choice("fail", "warn"),
        "What a preflight Pod means that no node takes in time; `warn` where an autoscaler adds nodes.",
        "fail",
    )
    service_account: str | None = key(
        shapes.text(no_space=True), "Shorthand for `pod_template.serviceAccountName`.", None
    )
    image_pull_secrets: tuple[str, ...] = key(
        shapes.list_of(shapes.text(no_space=True)),
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
        resources(), "Shorthand for `resources` of the template's container `task`.", {}
    )
    termination_grace_period_seconds: int | None = key(
        shapes.integer(minimum=0), "Shorthand for `pod_template.terminationGracePeriodSeconds`.", None
    )
    environment: tuple[EnvEntry, ...] = key(
        _ENVIRONMENT,
        "Shorthand for `env` of the template's container `task`; an entry without a value passes the worker's"
        " own on. The assignment's variables win.",
        (),
    )
    task_env_secret: bool = key(
        shapes.boolean(),
        "Keep the variables of assignment and operator in a Secret that the Job owns, in place of the Pod's"
        " spec; needs the permission to create secrets.",
        False,
    )
    evidence_dir: str | None = key(
        shapes.text(),
        "Folder in which the worker keeps a bundle of evidence (`collect`) of each task that fails, the"
        " newest 100; else it keeps none.",
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

    worker_id: str | None = key(shapes.text(), "This worker's ID; not one that begins with `warp`.", None)
    cleanup: bool = key(shapes.boolean(), "Remove Jobs, containers and workspaces that are done with.", True)
    max_concurrent_tasks: int = key(shapes.integer(minimum=0), "How many at a time; 0 is unlimited.", 0)
    idle_on_complete: str | None = key(
        shapes.humantime(), "How long the agent stays after its task, such as 45m.", None
    )
    backend: Mapping[str, BackendConfig] = key(shapes.sections(BACKEND_SECTIONS), "The backend.", {})
