"""The task's variables in a Secret that the Job owns, in place of the Pod's spec. Pure.

A user who may read Pods or Jobs then sees only the names of the variables. The Job is created
first, so that the Secret can name it as its owner: the garbage collector removes the Secret with the
Job, even if the worker dies. A Pod whose Secret does not exist yet waits for it (the kubelet reports
CreateContainerConfigError and tries again).
"""

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import AssignmentError, TaskTooLargeError
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import TaskSpec

from .pod_template import task_container_of

__all__ = [
    "MAX_SECRET",
    "build_environment_secret",
    "check_variables",
    "secret_key",
    "secret_references",
    "task_variables",
]

#: The most that the values of a Secret may hold together, in bytes (core/v1, MaxSecretSize).
MAX_SECRET: Final = 1024 * 1024
#: The keys that a Secret may have (apimachinery, IsConfigMapKey); a variable may have other names.
_KEY: Final = re.compile(r"(?!\.\.?$|\.\.)[-._a-zA-Z0-9]{1,253}")
_DIGEST: Final = "sha256-"


def task_variables(spec: TaskSpec, config: KubernetesConfig) -> dict[str, Secret]:
    """Return the variables whose values the worker supplies, without the backend's own ``OZ_*``.

    These are the variables of the assignment and the operator, and those of ``config.environment``
    that the template's container ``task`` does not set itself.
    """
    task = task_container_of(config.pod_template) or {}
    named = {entry.get("name") for entry in task.get("env") or ()}
    shorthand = {e.name: Secret(e.value) for e in config.environment if e.value is not None}
    filled = {name: value for name, value in shorthand.items() if name not in named}
    return {**filled, **spec.environment}


def check_variables(variables: Mapping[str, Secret]) -> None:
    """Check that a Secret can hold the variables.

    Raises:
        TaskTooLargeError: the values are too large together.
        AssignmentError: one is not valid Unicode.
    """
    size = 0
    for name, value in variables.items():
        try:
            size += len(value.reveal().encode())
        except UnicodeEncodeError:
            # The error's own text would show the value.
            raise AssignmentError(f"the variable {name} holds half a character, and is no UTF-8") from None
    if size > MAX_SECRET:
        raise TaskTooLargeError(
            f"the task's variables hold {size} bytes, and a Kubernetes Secret holds {MAX_SECRET} at most:"
            " hand large values over in another way, such as a file"
        )


def secret_key(variable: str) -> str:
    """Return the key of a variable in its Secret: its name, or a digest where no key may be so named.

    No two variables share a key.
    """
    if _KEY.fullmatch(variable) and not variable.startswith(_DIGEST):
        return variable
    return _DIGEST + hashlib.sha256(variable.encode("utf-8", "surrogatepass")).hexdigest()


def secret_references(
    entries: Iterable[dict[str, Any]], names: Collection[str], secret: str
) -> list[dict[str, Any]]:
    """Replace the values of the variables ``names`` in a container's ``env`` by references to ``secret``.

    The kubelet does not expand ``$(NAME)`` in what a reference gives (core/v1, EnvVar.valueFrom), so
    the value arrives exactly as it is.
    """

    def reference(name: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": secret_key(name)}}}

    return [reference(entry["name"]) if entry["name"] in names else entry for entry in entries]


def build_environment_secret(
    variables: Mapping[str, Secret], job: Mapping[str, Any], *, name: str, uid: str
) -> dict[str, Any]:
    """Write the Secret (core/v1) that the Job of the manifest ``job`` owns; ``uid`` is the Job's."""
    metadata = job["metadata"]
    owner = {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": metadata["name"],
        "uid": uid,
        "controller": False,
        # True would need the permission to update the Job's finalizers.
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": dict(metadata["labels"]),
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "immutable": True,
        "data": {
            secret_key(name): base64.b64encode(variables[name].reveal().encode()).decode()
            for name in sorted(variables)
        },
    }
