"""Sidecars: images whose files appear in the task, by copy or as image volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AssignmentError, Sidecar

from .pod_template import escape_expansion
from .scripts import COPY_ROOT_FILESYSTEM

__all__ = ["COPY_CONTAINER_PREFIX", "SidecarParts", "copied_sidecars", "image_volume_sidecars"]

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


def copied_sidecars(
    sidecars: Sequence[Sidecar], pull_policy: str, task_resources: Mapping[str, Any]
) -> SidecarParts:
    """Each sidecar as an init container that copies its own image into an emptyDir.

    Works on every cluster, and is the one way to a sidecar that can be written to.
    """
    parts = SidecarParts([], [], [])
    for index, sidecar in enumerate(sidecars):
        volume = f"sidecar-{index}-data"
        parts.volumes.append({"name": volume, "emptyDir": {}})
        parts.init_containers.append(
            _copy_container(index, sidecar.image, pull_policy, volume, task_resources)
        )
        parts.mounts.append(_mount(volume, sidecar, read_only=not sidecar.read_write))
    return parts


def image_volume_sidecars(sidecars: Sequence[Sidecar], pull_policy: str) -> SidecarParts:
    """Each sidecar as a volume of type image (core/v1, ImageVolumeSource).

    Raises:
        AssignmentError: a sidecar asks to be written to, which an image volume never is.
    """
    parts = SidecarParts([], [], [])
    for index, sidecar in enumerate(sidecars):
        if sidecar.read_write:
            raise AssignmentError(
                f"the sidecar at {sidecar.mount_path} asks for read_write, but image volumes are"
                " read-only: set backend.kubernetes.use_image_volumes to false"
            )
        volume = f"sidecar-{index}-image"
        image = {"reference": sidecar.image, "pullPolicy": pull_policy}
        parts.volumes.append({"name": volume, "image": image})
        parts.mounts.append(_mount(volume, sidecar, read_only=True))
    return parts


def _copy_container(
    index: int, image: str, pull_policy: str, volume: str, task_resources: Mapping[str, Any]
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": f"{COPY_CONTAINER_PREFIX}{index}",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["/bin/sh", "-c", _COPY_SCRIPT, "copy-sidecar", "/", _TARGET],
        # Root reads every file and keeps its owner; a template whose Pods must not run
        # as root would refuse this container without the explicit exception.
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
    """What the task asks of the machine, devices aside.

    A Pod asks for the larger of its init containers and its containers, so this costs
    nothing, and a namespace with a quota, which refuses containers that ask for
    nothing, admits the Pod.
    """
    shared = {
        kind: {axis: amount for axis, amount in (resources.get(kind) or {}).items() if axis in _SHARED_AXES}
        for kind in ("requests", "limits")
    }
    return {kind: axes for kind, axes in shared.items() if axes}


def _mount(volume: str, sidecar: Sidecar, *, read_only: bool) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": volume, "mountPath": sidecar.mount_path}
    return {**mount, "readOnly": True} if read_only else mount
