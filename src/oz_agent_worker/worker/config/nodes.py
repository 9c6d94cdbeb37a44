"""YAML nodes: what a config file says, and on which line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from .dialect import Loader

__all__ = ["Problems", "entries", "is_null", "node_at", "plain", "shown", "text_of", "value_at"]

_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"
_STEP: Final = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")


@dataclass(slots=True)
class Problems:
    """Collects problems and warnings in the order of the file. ``source`` names the file.

    ``root`` is the file's content, by which a value has its line that is judged only after it was read.
    """

    source: str
    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    root: yaml.Node | None = None

    def note(self, path: str, node: yaml.Node | None, what: str) -> None:
        """Note a problem of the value at ``path``."""
        self.found.append(f"{self.place(path, node)}{what}")

    def warn(self, path: str, node: yaml.Node | None, what: str) -> None:
        """Note what is used although it may not be meant so; each warning once."""
        warning = f"{self.place(path, node)}{what}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def place(self, path: str, node: yaml.Node | None) -> str:
        """Where a value is, as the beginning of a sentence: file, line and path."""
        where = f"{self.source}:{node.start_mark.line + 1}: " if node is not None else ""
        return f"{where}{path}: " if path else where

    def line_of(self, path: str) -> str:
        """The file and line of what is at ``path``, as ``place`` gives them; "" without a file."""
        return self.place("", node_at(self.root, path))


def plain(node: yaml.Node) -> Any:
    """A node as plain data of YAML's safe types; a node that is not valid gives its unconverted value."""
    loader = Loader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # Such as `!!bool x`, for which PyYAML raises a KeyError.
        return getattr(node, "value", None)
    finally:
        loader.dispose()


def text_of(node: yaml.Node, path: str, problems: Problems) -> str | None:
    """A scalar as text, as it was written; ``None`` for null, a list and a mapping.

    A number or a boolean whose text programs may read in another way (1.0, 0x10, 1_000, yes, a
    date) is a warning, which does not show it: it may be a secret.
    """
    if not isinstance(node, yaml.ScalarNode) or is_null(node):
        return None
    text = str(node.value)
    if node.tag != _TEXT and _canonical(plain(node)) != text:
        what = "programs read this in different ways, and it is taken as it is written: put it in quotes"
        problems.warn(path, node, what)
    return text


def _canonical(value: Any) -> str | None:
    """The text of a value in every program; ``None`` for what has no such text."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 2**63 else None
        case str():
            return value
        case float():
            return repr(value).removesuffix(".0")
        case _:
            return None


def is_null(node: yaml.Node) -> bool:
    """Whether a node is YAML's null."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def value_at(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The node of a key's value, for its line; the mapping itself if it does not have the key."""
    own = node.value if isinstance(node, yaml.MappingNode) else []
    return next((v for k, v in own if k.value == key), node)


def node_at(node: yaml.Node | None, path: str) -> yaml.Node | None:
    """The node at a path such as ``a.b[0]`` or ``a.b[task]`` (by name), or the nearest above it."""
    for key, item in _STEP.findall(path):
        below = _named(node, item) if item else _entry(node, key)
        if below is None:
            break
        node = below
    return node


def _entry(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """A mapping's value, merged ones included."""
    own = entries(node, "", Problems("")) if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, _, value in own if name == key), None)


def _named(node: yaml.Node | None, item: str) -> yaml.Node | None:
    """An item of a list, by its number or its ``name``."""
    items = node.value if isinstance(node, yaml.SequenceNode) else []
    if item.isdecimal() and int(item) < len(items):
        found: yaml.Node = items[int(item)]
        return found
    names = ((_entry(child, "name"), child) for child in items)
    return next((child for name, child in names if name is not None and name.value == item), None)


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
    try:
        text = repr(value)
    except ValueError:  # of thousands of digits
        return "a number"
    return text if len(text) <= 80 else text[:77] + "..."


def entries(
    node: yaml.Node, path: str, problems: Problems, *, may_repeat: bool = False
) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """A mapping's entries as (key, its node, the value's node), those of merged mappings last.

    A null is an empty mapping. A repeated key is a problem, or with ``may_repeat`` a warning,
    and the last one counts. With a merge key
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
        elif name in found and may_repeat:
            problems.warn(f"{prefix}{name}", key, "this key is repeated: the last one counts")
            found[name] = (name, key, value)
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
