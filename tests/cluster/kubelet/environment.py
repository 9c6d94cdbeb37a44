"""A container's environment and command line as the kubelet works them out. Pure but for the reads.

``$(NAME)`` references are replaced in values, commands and arguments by the rules of
Kubernetes' ``third_party/forked/golang/expansion``.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from .states import Pod

__all__ = ["Reader", "command_line", "environment", "expand"]

Reader: TypeAlias = Callable[[str, str], Awaitable[dict[str, Any]]]
"""Reads an object of the Pod's namespace: (``secrets`` or ``configmaps``, name)."""

REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; leave it where there is none. ``$$`` stands for ``$``."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return REFERENCE.sub(value, text)


def command_line(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Return command and args, expanded."""
    return [expand(part, variables) for part in (*container.get("command", ()), *container.get("args", ()))]


async def environment(pod: Pod, container: Mapping[str, Any], read: Reader) -> dict[str, str]:
    """Return the variables of ``envFrom`` and ``env``, later ones winning and seeing earlier ones."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        for kind, reference in (("secrets", "secretRef"), ("configmaps", "configMapRef")):
            if reference in source:
                content = await read(kind, source[reference]["name"])
                found |= {prefix + key: value for key, value in _values(kind, content).items()}
    for variable in container.get("env") or []:
        if "valueFrom" in variable:
            value = await _value_from(pod, variable["valueFrom"], read)
        else:
            value = expand(variable.get("value", ""), found)
        if value is not None:
            found[variable["name"]] = value
    return found


async def _value_from(pod: Pod, source: Mapping[str, Any], read: Reader) -> str | None:
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    for kind, reference in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
        if reference in source:
            wanted = source[reference]
            values = _values(kind, await read(kind, wanted["name"]))
            return values.get(wanted["key"]) if wanted.get("optional") else values[wanted["key"]]
    raise NotImplementedError(f"a variable from {', '.join(source)}")


def _values(kind: str, content: Mapping[str, Any]) -> dict[str, str]:
    data: dict[str, str] = content.get("data") or {}
    if kind == "secrets":
        return {key: base64.b64decode(value).decode() for key, value in data.items()}
    return data


def _field(pod: Pod, path: str) -> str:
    """Read a downward API field: ``metadata.name``, ``metadata.labels['x']``, ``status.podIP``, …"""
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed is not None:
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, {})
    return value if isinstance(value, str) else ""
