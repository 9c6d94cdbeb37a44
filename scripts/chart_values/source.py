"""A chart's values.schema.yaml: a JSON Schema in which each value has its default too.

``$ref`` to one of the file's definitions is replaced by the definition, so that a description
beside it counts (draft 7 ignores the neighbours of a ``$ref``). ``$config`` is replaced by a key
of the worker's config file (``config_keys``). An object that lists its properties is closed.
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
    "closed_schema",
    "fallbacks",
    "may_be_null",
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


def may_be_null(schema: Mapping[str, Any]) -> bool:
    """Whether null has a meaning of its own, and is not the same as the default."""
    kinds = schema.get("type")
    return isinstance(kinds, list) and "null" in kinds


def fallbacks(source: Mapping[str, Any], section: str = "") -> Iterator[dict[str, Any]]:
    """The defaults of missing values: the ``values`` of each ``section``, given by its dotted path.

    Those that are ``nullable`` apply only if their whole section is missing.
    """
    prefix = f"{section}." if section else ""
    below = list(values(source, prefix))
    leaves = [value for value in below if not value.is_group]
    yield {
        "section": section,
        "values": {value.name: value.schema["default"] for value in leaves},
        "nullable": [value.name for value in leaves if may_be_null(value.schema)],
    }
    for value in below:
        if value.is_group:
            yield from fallbacks(value.schema, value.path)


def closed_schema(schema: Any) -> Any:
    """The JSON Schema, with ``additionalProperties: false`` in every object that lists its properties."""
    if isinstance(schema, list):
        return [closed_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A default is data, not a schema.
    closed = {key: item if key == "default" else closed_schema(item) for key, item in schema.items()}
    if isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


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
