"""The operator's ``pod_template`` and the shorthands that fill what it leaves unset.

The template is a PodSpec of the API (core/v1), kept as it is: the API server checks it. This
module checks only the fields that the worker adds to.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import InstanceShape
from oz_agent_worker.worker.config.kubernetes_shapes import resource_problems
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import WORKSPACE

__all__ = [
    "TASK_CONTAINER",
    "WORKSPACE_VOLUME",
    "base_pod",
    "escape_expansion",
    "merge_environment",
    "shorthand_conflicts",
    "task_container_of",
    "template_problems",
    "with_shape",
]

#: The container that runs the agent.
TASK_CONTAINER: Final = "task"
#: The volume at ``/workspace``; a template's volume of this name takes its place.
WORKSPACE_VOLUME: Final = "workspace"

_RESERVED_INIT: Final = re.compile(r"setup|copy-sidecar-\d+|task")
_RESERVED_VOLUME: Final = re.compile(r"sidecar-\d+-(data|image)")
_EXPANDED: Final = re.compile(r"\$(?=[$(])")
_NAMED_LISTS: Final = ("containers", "initContainers", "volumes")


def escape_expansion(text: str) -> str:
    """Protect text from the kubelet, which replaces ``$(NAME)`` and makes ``$$`` one ``$``.

    Source: core/v1, Container.args and EnvVar.value.
    """
    return _EXPANDED.sub("$$", text) if "$" in text else text


def base_pod(config: KubernetesConfig) -> dict[str, Any]:
    """Copy the template, and fill the fields that it leaves unset from the shorthands.

    The copy always has the container ``task`` and the lists of containers and volumes. The Pod gets
    no service account token unless the template asks for it or an account is named: a task does not
    need the API server.
    """
    pod: dict[str, Any] = _plain(config.pod_template)
    for _, field, value in _pod_shorthands(config):
        if _set_in(pod, field) is None:
            pod[field] = _plain(value)
    for field in _NAMED_LISTS:
        pod[field] = pod.get(field) or []
    if _set_in(pod, "serviceAccountName") is None:
        pod.setdefault("automountServiceAccountToken", False)
    task = task_container_of(pod)
    if task is None:
        task = {"name": TASK_CONTAINER}
        pod["containers"].append(task)
    if config.resources and task.get("resources") is None:
        task["resources"] = _plain(config.resources)
    entries = list(task.get("env") or ())
    named = {entry.get("name") for entry in entries}
    task["env"] = entries + [
        {"name": entry.name, "value": escape_expansion(entry.value)}
        for entry in config.environment
        if entry.value is not None and entry.name not in named
    ]
    return pod


def task_container_of(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the container named ``task`` of a PodSpec, if it declares one."""
    containers: Iterable[dict[str, Any]] = pod.get("containers") or ()
    return next((c for c in containers if c.get("name") == TASK_CONTAINER), None)


def merge_environment(
    own: Mapping[str, Secret], entries: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Join the worker's variables with a template's ``env`` entries; the worker's win by name.

    The worker's come first, sorted by name and escaped, so that each arrives exactly as it is
    and a template's entry can refer to it as ``$(NAME)``. The template's entries keep
    their order, because they may refer to one another.
    """
    ours = [{"name": name, "value": escape_expansion(own[name].reveal())} for name in sorted(own)]
    return ours + [dict(entry) for entry in entries if entry.get("name") not in own]


def with_shape(resources: Mapping[str, Any], shape: InstanceShape) -> dict[str, Any]:
    """Return ``resources`` with the CPU and memory of the instance shape as request and limit."""
    axes: dict[str, str] = {}
    if shape.vcpus is not None:
        axes["cpu"] = str(shape.vcpus)
    if shape.memory_gb is not None:
        axes["memory"] = f"{shape.memory_gb}Gi"
    if not axes:
        return dict(resources)
    shaped = {kind: {**(resources.get(kind) or {}), **axes} for kind in ("requests", "limits")}
    return {**resources, **shaped}


# Checks ------------------------------------------------------------------------------------------


def shorthand_conflicts(config: KubernetesConfig) -> list[tuple[str, str]]:
    """Find the fields that a shorthand and the template set to different values.

    Returns (shorthand key, field of the template) pairs, such as
    ``("node_selector", "nodeSelector")``.
    """
    template = config.pod_template
    found = [
        (key, field)
        for key, field, value in _pod_shorthands(config)
        if _set_in(template, field) not in (None, _plain(value))
    ]
    if template_problems(template):
        # The caller reports these problems.
        return found
    if config.workspace_size_limit and not _limits_workspace(template, config.workspace_size_limit):
        found.append(("workspace_size_limit", f"volumes[{WORKSPACE_VOLUME}]"))
    task = task_container_of(template) or {}
    path = f"containers[{TASK_CONTAINER}]"
    if config.resources and task.get("resources") not in (None, _plain(config.resources)):
        found.append(("resources", f"{path}.resources"))
    entries = {entry.get("name"): entry for entry in task.get("env") or ()}
    for entry in config.environment:
        shown = {"name": entry.name, "value": escape_expansion(entry.value or "")}
        if entry.value is not None and entries.get(entry.name) not in (None, shown):
            found.append(("environment", f"{path}.env[{entry.name}]"))
    return found


def _limits_workspace(template: Mapping[str, Any], limit: str) -> bool:
    """Whether the workspace has this limit: the worker's own volume, or the template's in its place."""
    volumes = (v for v in template.get("volumes") or () if v["name"] == WORKSPACE_VOLUME)
    return all((volume.get("emptyDir") or {}).get("sizeLimit") == limit for volume in volumes)


def template_problems(template: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Find what the worker cannot work with in a template, as (path, what is wrong) pairs.

    Empty where all else is for the API server to check.
    """
    problems = [*_foreign_data(template, "pod_template")]
    for field in _NAMED_LISTS:
        problems += _unnamed(template.get(field), f"pod_template.{field}")
    if problems:
        return problems
    for container in template.get("containers") or ():
        for field in ("env", "volumeMounts"):
            path = f"pod_template.containers[{container['name']}].{field}"
            problems += _unnamed(container.get(field), path)
    problems += _wrong_resources(template)
    return problems or [*_reserved(template)]


def _wrong_resources(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in ("initContainers", "containers"):
        for container in template.get(field) or ():
            path = f"pod_template.{field}[{container['name']}].resources"
            resources = container.get("resources")
            if resources is None:
                continue
            if not isinstance(resources, Mapping):
                yield path, "allowed is a mapping"
                continue
            for below, what in resource_problems(resources):
                yield ".".join((path, *below)), what


def _reserved(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, names in (("initContainers", _RESERVED_INIT), ("volumes", _RESERVED_VOLUME)):
        for item in template.get(field) or ():
            if names.fullmatch(item["name"]):
                yield f"pod_template.{field}[{item['name']}]", "the worker uses this name itself"
    for mount in (task_container_of(template) or {}).get("volumeMounts") or ():
        if str(mount.get("mountPath", "")).rstrip("/") == WORKSPACE:
            path = f"pod_template.containers[{TASK_CONTAINER}].volumeMounts[{mount['name']}]"
            hint = f"the workspace is there; a volume named `{WORKSPACE_VOLUME}` takes its place"
            yield path, hint


def _unnamed(items: Any, path: str) -> Iterator[tuple[str, str]]:
    """Find what is no list of mappings that each have a name."""
    if items is None:
        return
    if not isinstance(items, list | tuple):
        yield path, "allowed is a list"
        return
    for index, item in enumerate(items):
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            yield f"{path}[{index}]", "allowed is a mapping with a `name`"


def _foreign_data(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Find values that JSON does not have, such as the dates that YAML reads unquoted."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _foreign_data(child, f"{path}.{name}")
            if not isinstance(name, str):
                yield f"{path}.{name}", "a key must be a string: quote it"
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from _foreign_data(child, f"{path}[{index}]")
    elif not isinstance(value, str | int | float | bool | None):
        yield path, f"read a {type(value).__name__}; quote it if a string is meant"


# Shorthands --------------------------------------------------------------------------------------


def _pod_shorthands(config: KubernetesConfig) -> list[tuple[str, str, Any]]:
    """Return the shorthands that are set, as (key, field of the PodSpec, value) triples."""
    pairs: tuple[tuple[str, str, Any], ...] = (
        ("service_account", "serviceAccountName", config.service_account),
        ("image_pull_secrets", "imagePullSecrets", [{"name": n} for n in config.image_pull_secrets]),
        ("node_selector", "nodeSelector", config.node_selector),
        ("tolerations", "tolerations", config.tolerations),
        (
            "termination_grace_period_seconds",
            "terminationGracePeriodSeconds",
            config.termination_grace_period_seconds,
        ),
    )
    return [triple for triple in pairs if triple[2] or triple[2] == 0]


def _set_in(pod: Mapping[str, Any], field: str) -> Any:
    """The field's value, ``None`` where it is unset."""
    value = pod.get(field)
    if value is None and field == "serviceAccountName":
        # core/v1, PodSpec: the deprecated alias, which the API server still honours.
        value = pod.get("serviceAccount")
    return _plain(value)


def _plain(value: Any) -> Any:
    """Copy data into fresh dicts and lists."""
    if isinstance(value, Mapping):
        return {name: _plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value
