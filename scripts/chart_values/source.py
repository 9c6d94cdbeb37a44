"""A chart's values.schema.yaml: a JSON Schema in which each value has its default too.

``$ref`` to one of the file's definitions is replaced by the definition, so that a description
beside it counts (draft 7 ignores the neighbours of a ``$ref``). ``$config`` is replaced by a key
of the worker's config file (``config_keys``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from .config_keys import config_values

__all__ = [
    "SourceError",
    "Value",
    "read_source",
    "values",
]

_DEFINITIONS: Final = "#/definitions/"
_REFERENCES: Final = ("$ref", "$config")


class SourceError(Exception):
    """A value of the source has no default or no description, or refers to nothing."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value, or one group of values (``is_group``); ``path`` is dotted."""

    path: str
    schema: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def is_group(self) -> bool:
        """Whether it contains values."""
        return "properties" in self.schema and "default" not in self.schema

    @property
    def description(self) -> str:
        """What it means."""
        return str(self.schema["description"])


def read_source(path: Path) -> dict[str, Any]:
    """Read a source and resolve its references.

    Raises:
        SourceError: a reference names nothing, or a value has no default or no description.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    definitions = content.pop("definitions", {})
    source = _resolved(content, definitions)
    assert isinstance(source, dict)
    for value in values(source, deep=True):
        lacking = [key for key in ("description", "default") if key not in value.schema]
        if lacking and not (value.is_group and lacking == ["default"]):
            raise SourceError(f"{path}: {value.path} has no {lacking[0]}")
    return source


def values(source: Mapping[str, Any], prefix: str = "", *, deep: bool = False) -> Iterator[Value]:
    """The values and groups below a source or a group, in its order: its own, or ``deep`` all of them."""
    for name, schema in source.get("properties", {}).items():
        value = Value(f"{prefix}{name}", schema)
        yield value
        if deep and value.is_group:
            yield from values(schema, f"{value.path}.", deep=True)


def _resolved(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Replace ``$ref`` and ``$config``; members beside them win."""
    if isinstance(node, list):
        return [_resolved(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    own = {key: _resolved(item, definitions) for key, item in node.items() if key not in _REFERENCES}
    try:
        if "$config" in node:
            return _overridden(config_values(node["$config"]), own)
        if "$ref" in node:
            return {**_resolved(definitions[node["$ref"].removeprefix(_DEFINITIONS)], definitions), **own}
    except KeyError as error:
        raise SourceError(f"{error.args[0]} refers to nothing") from error
    return own


def _overridden(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A generated schema with some of its members replaced, those of single values too.

    Raises:
        KeyError: a value is replaced that the generated schema does not have.
    """
    values = {
        name: {**base["properties"][name], **changes} for name, changes in own.get("properties", {}).items()
    }
    below = {"properties": {**base["properties"], **values}} if "properties" in base else {}
    return {**base, **own, **below}
