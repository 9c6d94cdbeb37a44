"""Chart values that set a key of the worker's config file, made from the file's schema.

In a chart's values.schema.yaml ``$config: cleanup`` is replaced by the type, default and meaning of
that key, and ``$config: backend.kubernetes`` by a value for each key of that section.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from oz_agent_worker.worker.config.schema import BACKEND_SECTIONS, FileConfig

__all__ = ["config_values", "default_in_yaml", "value_name"]

_SECTION: Final = "backend."
_KEY_IN_TEXT: Final = re.compile(r"`([a-z_]+)(\.[^`]+)?`")


def value_name(key: str) -> str:
    """The chart value that sets a key: in camel case, with CLI as an acronym."""
    first, *others = key.split("_")
    return first + "".join(word.upper() if word == "cli" else word.capitalize() for word in others)


def config_values(path: str) -> dict[str, Any]:
    """The JSON Schema of a key or a section, with defaults and descriptions.

    Raises:
        KeyError: the config file has no such key or section.
    """
    if not path.startswith(_SECTION):
        return _value(_keys(FileConfig)[path], {})
    keys = _keys(BACKEND_SECTIONS[path.removeprefix(_SECTION)])
    names = {name: value_name(name) for name in keys}
    return {"type": "object", "properties": {names[name]: _value(key, names) for name, key in keys.items()}}


def default_in_yaml(key: dataclasses.Field[Any]) -> Any:
    """A key's default as an operator would write it; MISSING where the key is required."""
    value = key.default if key.default_factory is dataclasses.MISSING else key.default_factory()
    if isinstance(value, float):  # a duration in seconds: the schema has no other floats
        return f"{value / 60:g}m" if value > 60 and value % 60 == 0 else f"{value:g}s"
    return list(value) if isinstance(value, tuple) else value


def _keys(section: type) -> dict[str, dataclasses.Field[Any]]:
    return {key.name: key for key in dataclasses.fields(section)}


def _value(key: dataclasses.Field[Any], names: Mapping[str, str]) -> dict[str, Any]:
    schema = dict(key.metadata["shape"].schema)
    default = default_in_yaml(key)
    if default is None and schema.get("type") == "integer":
        schema["type"] = ["integer", "null"]
    elif default is None:
        default = ""
    doc = _KEY_IN_TEXT.sub(lambda m: f"`{names.get(m[1], m[1])}{m[2] or ''}`", key.metadata["doc"])
    return {**schema, "description": doc, "default": default}
