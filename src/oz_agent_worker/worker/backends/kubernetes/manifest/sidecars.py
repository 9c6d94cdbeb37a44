"""Sidecars: images whose files appear in the task, by copy or as image volumes (KEP-4639). Pure."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AssignmentError, Sidecar
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import check_sidecars

from .pod_template import escape_expansion
from .scripts import COPY_ROOT_FILESYSTEM

__all__ = ["COPY_CONTAINER_PREFIX", "SidecarParts", "normal_path", "sidecar_parts"]

#: Begins the name of each init container that copies a sidecar; its index follows.
COPY_CONTAINER_PREFIX: Final = "copy-sidecar-"
_TARGET: Final = "/target"
_COPY_SCRIPT: Final = escape_expansion(COPY_ROOT_FILESYSTEM)
_SHARED_AXES: Final = frozenset({"cpu", "memory", "ephemeral-storage"})


@dataclass(frozen=True, slots=True)
class SidecarParts:
    """What sidecars add to a Pod: volumes, init containers, and mounts of the task."""

    volumes: list[dict[str, Any]]
    init_containers: list[dict[str, Any]]
    mounts: list[dict[str, Any]]


def sidecar_parts(
    sidecars: Sequence[Sidecar], config: KubernetesConfig, task_resources: Mapping[str, Any]
) -> SidecarParts:
    """Add the sidecars, each as a copy of its image or as an image volume (``use_image_volumes``).

    A copy (an init container that copies its own image into an emptyDir) works on every cluster
    and can be written to. An image volume (core/v1, ImageVolumeSource) is read-only.

    Raises:
        AssignmentError: a sidecar cannot be mounted, or an image volume is to be written to.
    """
    check_sidecars(sidecars)
    sidecars = [replace(sidecar, mount_path=normal_path(sidecar.mount_path)) for sidecar in sidecars]
    check_sidecars(sidecars)
    parts = SidecarParts([], [], [])
    policy = config.image_pull_policy
    for index, sidecar in enumerate(sidecars):
        if not config.use_image_volumes:
            volume = f"sidecar-{index}-data"
            parts.volumes.append({"name": volume, "emptyDir": {}})
            copy = _copy_container(index, sidecar.image, policy, volume, task_resources)
            parts.init_containers.append(copy)
        elif sidecar.read_write:
            raise AssignmentError(
                f"the sidecar at {sidecar.mount_path} asks for read_write, but image volumes are"
                " read-only: set backend.kubernetes.use_image_volumes to false"
            )
        else:
            volume = f"sidecar-{index}-image"
            image = {"reference": sidecar.image, "pullPolicy": policy}
            parts.volumes.append({"name": volume, "image": image})
        mount: dict[str, Any] = {"name": volume, "mountPath": sidecar.mount_path}
        parts.mounts.append(mount if sidecar.read_write else {**mount, "readOnly": True})
    return parts


def normal_path(path: str) -> str:
    """Spell a mount path in one way: ``/workspace/.`` is the workspace too."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _copy_container(
    index: int, image: str, pull_policy: str, volume: str, task_resources: Mapping[str, Any]
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": f"{COPY_CONTAINER_PREFIX}{index}",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["/bin/sh", "-c", _COPY_SCRIPT, "copy-sidecar", "/", _TARGET],
        # Root can read every file and keep its owner. The explicit exception is for a template
        # whose Pods must not run as root.
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": volume, "mountPath": _TARGET}],
    }
    resources = _shared_resources(task_resources)
    if resources:
        container["resources"] = resources
    return container


def _shared_resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's resources without devices.

    A Pod's request is the larger of its init containers' and its containers', so this costs
    nothing. A namespace with a quota refuses containers without requests.
    """
    shared = {
        kind: {axis: amount for axis, amount in (resources.get(kind) or {}).items() if axis in _SHARED_AXES}
        for kind in ("requests", "limits")
    }
    return {kind: axes for kind, axes in shared.items() if axes}
