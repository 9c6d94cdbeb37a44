"""YAML's nodes: what a config file says, and on which line."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = ["Problems", "entries", "is_null", "plain", "shown", "value_at", "written"]

_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(slots=True)
class Problems:
    """Collects what is wrong, in the order of the file. ``source`` names the file."""

    source: str
    found: list[str] = field(default_factory=list)

    def note(self, path: str, node: yaml.Node | None, what: str) -> None:
        """Note a problem of the value at ``path``."""
        where = f"{self.source}:{node.start_mark.line + 1}: " if node is not None else ""
        self.found.append(f"{where}{path}: {what}" if path else f"{where}{what}")


def plain(node: yaml.Node) -> Any:
    """A node as plain data, with YAML's safe types alone; what cannot be made one, as it was composed."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError):
        return getattr(node, "value", None)
    finally:
        loader.dispose()


def written(node: yaml.Node) -> str | None:
    """A scalar as a text, numbers as they were written; ``None`` for anything else."""
    value = plain(node)
    if isinstance(value, str):
        return value
    is_text = isinstance(node, yaml.ScalarNode) and value is not None and not isinstance(value, bool)
    return str(node.value) if is_text else None


def is_null(node: yaml.Node) -> bool:
    """Whether a node is YAML's null."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def value_at(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of a mapping's key, for the line that it stands on."""
    own = node.value if isinstance(node, yaml.MappingNode) else []
    return next((v for k, v in own if k.value == key), node)


def shown(value: Any) -> str:
    """A value as a problem quotes it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def entries(node: yaml.Node, path: str, problems: Problems) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """Give a mapping's entries as (key, its node, the value's), those of merged mappings last.

    A null is an empty mapping; a key that stands twice is a problem. Of a merge key
    (https://yaml.org/type/merge.html) the mapping's own entries win, then the mapping named first.
    """
    if is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        problems.note(path, node, f"read {shown(plain(node))}, allowed is a mapping")
        return []
    found: list[tuple[str, yaml.Node, yaml.Node]] = []
    seen: set[str] = set()
    for key, value in node.value:
        if key.tag == _MERGE:
            _check_merge(value, f"{path}.<<" if path else "<<", problems)
            continue
        name = _name(key)
        if name in seen:
            problems.note(f"{path}.{name}" if path else name, key, "this key stands twice")
        seen.add(name)
        found.append((name, key, value))
    for key, value in _merged(node, set()):
        if _name(key) not in seen:
            seen.add(_name(key))
            found.append((_name(key), key, value))
    return found


def _name(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "?"


def _check_merge(value: yaml.Node, path: str, problems: Problems) -> None:
    for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
        if not isinstance(other, yaml.MappingNode):
            problems.note(
                path, other, f"read {shown(plain(other))}, allowed is a mapping, or a list of mappings"
            )


def _merged(node: yaml.MappingNode, seen: set[int]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """The entries of the mappings that a mapping's merge keys name; ``seen`` ends an alias of itself."""
    seen.add(id(node))
    for key, value in node.value:
        if key.tag != _MERGE:
            continue
        for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(other, yaml.MappingNode) and id(other) not in seen:
                yield from ((k, v) for k, v in other.value if k.tag != _MERGE)
                yield from _merged(other, seen)
