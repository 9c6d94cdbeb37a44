"""YAML nodes: what a config file says, and on which line."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = ["Problems", "entries", "is_null", "plain", "shown", "value_at", "written"]

_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(slots=True)
class Problems:
    """Collects problems in the order of the file. ``source`` names the file."""

    source: str
    found: list[str] = field(default_factory=list)

    def note(self, path: str, node: yaml.Node | None, what: str) -> None:
        """Note a problem of the value at ``path``."""
        where = f"{self.source}:{node.start_mark.line + 1}: " if node is not None else ""
        self.found.append(f"{where}{path}: {what}" if path else f"{where}{what}")


def plain(node: yaml.Node) -> Any:
    """A node as plain data of YAML's safe types; a node that is not valid gives its unconverted value."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError):
        return getattr(node, "value", None)
    finally:
        loader.dispose()


def written(node: yaml.Node) -> str | None:
    """A string or number as it was written; ``None`` for anything else."""
    value = plain(node)
    if isinstance(value, str):
        return value
    is_text = isinstance(node, yaml.ScalarNode) and value is not None and not isinstance(value, bool)
    return str(node.value) if is_text else None


def is_null(node: yaml.Node) -> bool:
    """Whether a node is YAML's null."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def value_at(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The node of a key's value, for its line; the mapping itself if it does not have the key."""
    own = node.value if isinstance(node, yaml.MappingNode) else []
    return next((v for k, v in own if k.value == key), node)


def shown(value: Any) -> str:
    """A value as a problem shows it."""
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
    """A mapping's entries as (key, its node, the value's node), those of merged mappings last.

    A null is an empty mapping; a repeated key is a problem. With a merge key
    (https://yaml.org/type/merge.html) the mapping's own entries win, then the mapping named first.
    """
    if is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        problems.note(path, node, f"read {shown(plain(node))}, allowed is a mapping")
        return []
    prefix = f"{path}." if path else ""
    found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        name = _name(key)
        if key.tag == _MERGE:
            for other in _sources(value):
                if not isinstance(other, yaml.MappingNode):
                    allowed = "allowed is a mapping, or a list of mappings"
                    problems.note(f"{prefix}<<", other, f"read {shown(plain(other))}, {allowed}")
        elif name in found:
            problems.note(f"{prefix}{name}", key, "this key is repeated")
        else:
            found[name] = (name, key, value)
    for key, value in _merged(node, set()):
        found.setdefault(_name(key), (_name(key), key, value))
    return list(found.values())


def _name(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "?"


def _sources(merge: yaml.Node) -> list[yaml.Node]:
    """What a merge key names: a mapping, or a list of mappings."""
    return merge.value if isinstance(merge, yaml.SequenceNode) else [merge]


def _merged(node: yaml.MappingNode, seen: set[int]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """The entries of the mappings that a mapping's merge keys name; ``seen`` stops an alias of itself."""
    seen.add(id(node))
    sources = (other for key, value in node.value if key.tag == _MERGE for other in _sources(value))
    for other in sources:
        if isinstance(other, yaml.MappingNode) and id(other) not in seen:
            yield from ((k, v) for k, v in other.value if k.tag != _MERGE)
            yield from _merged(other, seen)
