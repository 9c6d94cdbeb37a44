"""Translates the API server's field paths into the keys of the config file. Pure.

The server names ``spec.template.spec.containers[0].imag``; the operator wrote
``backend.kubernetes.pod_template``, where the container may have another index. So list items are
named by their ``name``, as everywhere in the worker's messages.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from oz_agent_worker.worker.config.schema import KubernetesConfig

from .pod_template import TASK_CONTAINER, task_container_of

__all__ = ["config_path", "field_problems", "in_config_terms"]

_ROOT: Final = "backend.kubernetes"
_TEMPLATE: Final = f"{_ROOT}.pod_template"
_PATH: Final = re.compile(r"\b(?:spec|metadata)(?:\.[A-Za-z][\w-]*|\[\d+\])+")
_STEP: Final = re.compile(r"\.?([A-Za-z][\w-]*)|\[(\d+)\]")
_FIELD_ERROR: Final = re.compile(r'(unknown|duplicate) field "([^"]+)"')
_TYPE_ERROR: Final = re.compile(r"cannot unmarshal (\w+) into Go struct field \w+\.(spec\.\S+) of type (\S+)")

#: Fields that other keys fill, as (how the server's path begins, the key).
_OTHER_KEYS: Final = (
    ("spec.template.metadata.labels", "extra_labels"),
    ("spec.template.metadata.annotations", "extra_annotations"),
    ("metadata.labels", "extra_labels"),
    ("metadata.annotations", "extra_annotations"),
    ("spec.activeDeadlineSeconds", "active_deadline_seconds"),
    ("spec.ttlSecondsAfterFinished", "ttl_seconds_after_finished"),
    ("spec.backoffLimit", "retry_on_disruption"),
)
#: Fields of the PodSpec that a shorthand fills where the template leaves them unset.
_SHORTHANDS: Final = {
    "imagePullSecrets": "image_pull_secrets",
    "nodeSelector": "node_selector",
    "serviceAccountName": "service_account",
    "terminationGracePeriodSeconds": "termination_grace_period_seconds",
    "tolerations": "tolerations",
}

# core/v1 of Kubernetes 1.35: what a misspelt field may have meant.
_POD_FIELDS: Final = (
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "dnsConfig",
    "dnsPolicy", "enableServiceLinks", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers",
    "hostname", "imagePullSecrets", "initContainers", "nodeName", "nodeSelector", "os", "overhead",
    "preemptionPolicy", "priority", "priorityClassName", "readinessGates", "resourceClaims", "resources",
    "restartPolicy", "runtimeClassName", "schedulerName", "schedulingGates", "securityContext",
    "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain",
    "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes",
)  # fmt: skip
_CONTAINER_FIELDS: Final = (
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name",
    "ports", "readinessProbe", "resizePolicy", "resources", "restartPolicy", "securityContext",
    "startupProbe", "stdin", "terminationMessagePath", "terminationMessagePolicy", "tty", "volumeDevices",
    "volumeMounts", "workingDir",
)  # fmt: skip
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "": _POD_FIELDS,
    "containers": _CONTAINER_FIELDS,
    "initContainers": _CONTAINER_FIELDS,
    "resources": ("claims", "limits", "requests"),
}


def config_path(path: str, manifest: Mapping[str, Any], config: KubernetesConfig) -> str:
    """Translate a path in the Job ``manifest`` into the key that the operator set.

    A path that no key fills is returned unchanged.
    """
    for begin, key in _OTHER_KEYS:
        if path == begin or path.startswith((f"{begin}.", f"{begin}[")):
            return f"{_ROOT}.{key}{path.removeprefix(begin)}"
    prefix = "spec.template.spec"
    if not path.startswith(f"{prefix}."):
        return path
    steps = list(_named_steps(path.removeprefix(prefix), manifest["spec"]["template"]["spec"]))
    return _shorthand_path(steps, config) or _TEMPLATE + "".join(steps)


def _named_steps(path: str, value: Any) -> Iterator[str]:
    """Split ``.containers[0].imag`` into steps, naming the items of lists where they have names."""
    for match in _STEP.finditer(path):
        field, index = match.groups()
        if field is not None:
            value = value.get(field) if isinstance(value, Mapping) else None
            yield f".{field}"
            continue
        here = isinstance(value, list | tuple) and int(index) < len(value)
        value = value[int(index)] if here else None
        name = value.get("name") if isinstance(value, Mapping) else None
        yield f"[{name or index}]"


def _shorthand_path(steps: list[str], config: KubernetesConfig) -> str | None:
    """The path below a shorthand's key, where it is the shorthand that filled the field."""
    template = config.pod_template
    key = _SHORTHANDS.get(steps[0][1:])
    if key is not None and getattr(config, key) and template.get(steps[0][1:]) is None:
        return f"{_ROOT}.{key}" + "".join(steps[1:])
    if steps[:3] == [".containers", f"[{TASK_CONTAINER}]", ".resources"]:
        task = task_container_of(template) or {}
        if config.resources and task.get("resources") is None:
            return f"{_ROOT}.resources" + "".join(steps[3:])
    if steps[:2] == [".volumes", "[workspace]"] and steps[-1] == ".sizeLimit":
        return f"{_ROOT}.workspace_size_limit"
    return None


def in_config_terms(text: str, manifest: Mapping[str, Any], config: KubernetesConfig) -> str:
    """Translate every path in a message of the API server."""
    return _PATH.sub(lambda found: config_path(found[0], manifest, config), text)


def field_problems(text: str, manifest: Mapping[str, Any], config: KubernetesConfig) -> list[str]:
    """Return one line for each field that a message of the API server complains about.

    That is: unknown or duplicate fields (strict field validation), and values of the wrong type.
    Empty where the message is about something else.
    """
    found = [
        f"{config_path(path, manifest, config)}: {kind} field{_meant(path) if kind == 'unknown' else ''}"
        for kind, path in _FIELD_ERROR.findall(text)
    ]
    for read, path, wanted in _TYPE_ERROR.findall(text):
        found.append(
            f"{config_path(path, manifest, config)}: read a {read}, allowed is a {_plain_type(wanted)}"
        )
    return found


def _meant(path: str) -> str:
    parent, _, name = path.removeprefix("spec.template.spec").rpartition(".")
    known = _KNOWN.get(re.sub(r"\[\d+\]", "", parent).rpartition(".")[2], ())
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _plain_type(go: str) -> str:
    """Name a Go type in terms of YAML."""
    if go.startswith("[]"):
        return "list"
    if go.startswith("map[") or "." in go:
        return "mapping"
    return {"bool": "boolean (true or false)"}.get(go, "whole number" if go.startswith("int") else go)
