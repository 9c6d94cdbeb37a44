"""Shapes: each decodes one YAML node and says what is wrong with it.

A shape never raises for bad input. It notes a problem and goes on, so that one run shows every
error of a file. A problem says where it is (the key's path and its line), what was read, and what
is allowed.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import yaml

from .durations import DURATION_SCHEMA, idle_warning, is_no_duration, parse_duration
from .json_data import json_data
from .nodes import Problems, entries, is_null, plain, shown, text_of

__all__ = [
    "VOLUME",
    "EnvEntry",
    "Shape",
    "boolean",
    "choice",
    "count",
    "duration",
    "environment",
    "humantime",
    "integer",
    "is_variable_name",
    "is_volume",
    "is_volume_option",
    "list_of",
    "mapping_of",
    "raw_mapping",
    "section",
    "sections",
    "string",
    "text",
    "unknown_key",
    "volume",
    "word",
]

T = TypeVar("T")

_ENV_NAME_BAD: Final = re.compile(r"[ \t=\0]")
#: Options of a bind mount and of a volume (Docker Engine API, HostConfig.Binds).
_VOLUME_OPTIONS: Final = frozenset((
    "ro", "rw", "z", "Z", "nocopy", "cached", "consistent", "delegated",
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
))  # fmt: skip


_ENV_ENTRY_SCHEMA: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1}, "value": {"type": "string"}},
}


@dataclass(frozen=True, slots=True)
class EnvEntry:
    """A variable for a task; without a value the worker's own value is passed on.

    ``place`` is where it is given, as the beginning of a sentence.
    """

    name: str
    value: str | None = field(default=None, repr=False)  # may be a secret
    place: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """Decodes a YAML node.

    ``describe`` says in a few words what is meant, and ``schema`` says it as JSON Schema, by one type:
    that a number or a boolean is taken for its text is not part of either.
    ``decode`` returns ``None`` where the node cannot be used, and notes the problem.
    """

    describe: str
    schema: Mapping[str, Any]
    decode: Callable[[yaml.Node, str, Problems], T | None]
    takes_null: bool = False  # else a null leaves the key at its default


def _scalar(
    describe: str,
    schema: Mapping[str, Any],
    convert: Callable[[Any], T | None],
    *,
    read: Callable[[yaml.Node, str, Problems], Any] = lambda node, _path, _problems: plain(node),
    empty_is_none: bool = False,
) -> Shape[T]:
    """Make a shape of a function that returns ``None`` for a value that is not allowed.

    With ``empty_is_none`` an empty string leaves the key at its default.
    """

    def decode(node: yaml.Node, path: str, problems: Problems) -> T | None:
        if empty_is_none and isinstance(node, yaml.ScalarNode) and node.value.strip() == "":
            return None
        value = read(node, path, problems)
        result = convert(value) if not isinstance(value, dict | list) else None
        if result is None:
            problems.note(path, node, f"read {shown(plain(node))}, allowed is {describe}")
        return result

    return Shape(describe, schema, decode)


def string(
    describe: str, schema: Mapping[str, Any], allowed: Callable[[str], bool], *, empty_is_none: bool = True
) -> Shape[str]:
    """A string that is ``allowed``. A number or a boolean counts as it was written: 1.10 is not 1.1.

    Without ``empty_is_none`` null is "", as in Go.
    """

    def read(node: yaml.Node, path: str, problems: Problems) -> str | None:
        return "" if is_null(node) and not empty_is_none else text_of(node, path, problems)

    shape = _scalar(
        describe,
        {"type": "string", **schema},
        lambda value: value if isinstance(value, str) and allowed(value) else None,
        read=read,
        empty_is_none=empty_is_none,
    )
    return dataclasses.replace(shape, takes_null=not empty_is_none)


# ------------------------------------------------------------------------------- scalars


def text(*, empty_is_none: bool = True) -> Shape[str]:
    """A string; a number or a boolean counts as its text. With ``empty_is_none`` "" is the default."""
    return string("a string", {}, lambda s: "\0" not in s, empty_is_none=empty_is_none)


def word() -> Shape[str]:
    """A string without space and tab; other white space is a warning. "" is the default."""
    shape = string("a string without white space", {"pattern": r"^[^ \t]*$"}, _is_word)

    def decode(node: yaml.Node, path: str, problems: Problems) -> str | None:
        value = shape.decode(node, path, problems)
        if value is not None and any(c.isspace() for c in value):
            problems.warn(path, node, f"{shown(value)} contains white space: remove it")
        return value

    return dataclasses.replace(shape, decode=decode)


def _is_word(value: str) -> bool:
    return not {" ", "\t", "\0"} & set(value)


def boolean() -> Shape[bool]:
    """true or false. The words of YAML 1.1 count too, where they are quoted as well (as in yaml.v3)."""
    words = {"y": True, "Y": True, "yes": True, "on": True, "n": False, "N": False, "no": False, "off": False}

    def convert(value: Any) -> bool | None:
        return value if isinstance(value, bool) else words.get(value) if isinstance(value, str) else None

    return _scalar("true or false", {"type": "boolean"}, convert)


def integer(*, minimum: int) -> Shape[int]:
    """A whole number that is not below ``minimum``."""

    def convert(value: Any) -> int | None:
        number = _whole(value)
        return number if number is not None and number >= minimum else None

    schema = {"type": "integer", "minimum": minimum}
    return _scalar(f"a whole number, {minimum} or more", schema, convert)


def count() -> Shape[int]:
    """A whole number; one below 0 counts as 0."""

    def convert(value: Any) -> int | None:
        number = _whole(value)
        return None if number is None else max(0, number)

    return _scalar("a whole number", {"type": "integer"}, convert)


def _whole(value: Any) -> int | None:
    """A whole number of 64 bits, also one that is written as 4.0 or 1e3."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if is_whole else None


def choice(*allowed: str) -> Shape[str]:
    """One of some words."""
    describe = "one of " + ", ".join(allowed)
    return _scalar(
        describe, {"enum": list(allowed)}, lambda v: v if v in allowed else None, empty_is_none=True
    )


def duration(*, zero: float = 0.0) -> Shape[float]:
    """A duration, decoded as seconds; one of 0 or less is ``zero``. "" is the default."""

    def convert(value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        seconds = parse_duration(value) if isinstance(value, str) else 0.0 if value == 0 else None
        return zero if seconds is not None and seconds <= 0 else seconds

    return _scalar("a duration such as 30s, 5m or 1h30m", DURATION_SCHEMA, convert, empty_is_none=True)


def humantime() -> Shape[str]:
    """A duration that is passed on as it was written."""
    describe = "a duration such as 45m or 0s"

    def decode(node: yaml.Node, path: str, problems: Problems) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.value == "":
            return None
        value = text_of(node, path, problems)
        if value is None or is_no_duration(value):
            problems.note(path, node, f"read {shown(plain(node))}, allowed is {describe}")
            return None
        if what := idle_warning(value):
            problems.warn(path, node, what)
        return value

    return Shape(describe, {"anyOf": [{"const": ""}, DURATION_SCHEMA]}, decode)


def volume() -> Shape[str]:
    """A Docker mount, ``[HOST:]CONTAINER[:OPTIONS]``."""
    return dataclasses.replace(string(VOLUME, {}, is_volume, empty_is_none=False), takes_null=False)


#: What ``is_volume`` allows.
VOLUME: Final = "HOST:CONTAINER, or with options such as :ro or :z, or CONTAINER alone"


def is_volume(value: str) -> bool:
    """Whether a text is a mount of a host's path or volume, or a new volume, at an absolute path."""
    source, colon, rest = value.partition(":")
    if not colon:
        return source.startswith("/")
    target, colon, options = rest.partition(":")
    sound = bool(source) and target.startswith("/")
    return sound and (not colon or all(map(is_volume_option, options.split(","))))


def is_volume_option(value: str) -> bool:
    """Whether a text is one of a mount's options, such as ``ro`` or ``z``."""
    return value in _VOLUME_OPTIONS


# ---------------------------------------------------------------------------- containers


def list_of(item: Shape[T], *, secret: bool = False) -> Shape[tuple[T, ...]]:
    """A list whose items all have one shape. A problem does not show a ``secret`` value."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> tuple[T, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            read = "" if secret else f"read {shown(plain(node))}, "
            problems.note(path, node, f"{read}allowed is a list of {item.describe}")
            return None
        decoded = (_item(item, child, f"{path}[{i}]", problems) for i, child in enumerate(node.value))
        return tuple(value for value in decoded if value is not None)

    return Shape(f"a list of {item.describe}", {"type": "array", "items": item.schema}, decode)


def mapping_of(item: Shape[T]) -> Shape[dict[str, T]]:
    """A mapping from names to values that all have one shape."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, T] | None:
        decoded = (
            (name, _item(item, child, f"{path}.{name}", problems))
            for name, _, child in entries(node, path, problems)
        )
        return {name: value for name, value in decoded if value is not None}

    schema = {"type": "object", "additionalProperties": item.schema}
    return Shape(f"a mapping of names to {item.describe}", schema, decode)


def _item(item: Shape[T], node: yaml.Node, path: str, problems: Problems) -> T | None:
    """Decode an item of a list or a mapping; a null is left out where it means nothing."""
    if is_null(node) and not item.takes_null:
        problems.warn(path, node, "nothing is given here: it is left out")
        return None
    return item.decode(node, path, problems)


def raw_mapping() -> Shape[Mapping[str, Any]]:
    """A mapping that is passed on as JSON, and checked by the API server."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        if not isinstance(node, yaml.MappingNode):
            problems.note(path, node, f"read {shown(plain(node))}, allowed is a mapping")
            return None
        before = len(problems.found)
        document: dict[str, Any] = json_data(node, path, problems)
        return document if len(problems.found) == before else None

    return Shape("a mapping", {"type": "object"}, decode)


def environment() -> Shape[tuple[EnvEntry, ...]]:
    """A list of ``{name, value}``; without ``value`` the worker's own value is passed on.

    A problem never shows what was read, because it may be a secret.
    """
    return list_of(Shape("{name: A, value: b}", _ENV_ENTRY_SCHEMA, _env_entry), secret=True)


def _env_entry(node: yaml.Node, path: str, problems: Problems) -> EnvEntry | None:
    if not isinstance(node, yaml.MappingNode):
        problems.note(path, node, "allowed is {name: A, value: b}")
        return None
    name: str | None = None
    value: str | None = None
    for key, key_node, child in entries(node, path, problems):
        if key == "name":
            name = text_of(child, f"{path}.name", problems)
        elif key == "value":
            value = text_of(child, f"{path}.value", problems)
            if not isinstance(child, yaml.ScalarNode) or "\0" in child.value:
                problems.note(f"{path}.value", child, "allowed is a string")
        else:
            problems.note(f"{path}.{key}", key_node, unknown_key(key, ["name", "value"]))
    if name is None or not is_variable_name(name):
        problems.note(f"{path}.name", node, "allowed is a variable's name, without white space or =")
        return None
    if any(c.isspace() for c in name):
        problems.warn(f"{path}.name", node, "the name contains white space: remove it")
    return EnvEntry(name, value, problems.place(path, node))


def is_variable_name(name: str) -> bool:
    """Whether a variable can have this name: it is not empty, and has no space, tab, = or NUL."""
    return bool(name) and not _ENV_NAME_BAD.search(name)


def section(schema: type[T]) -> Shape[T]:
    """A mapping whose keys are the fields of a dataclass of ``config.schema``."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> T | None:
        fields = {f.name: f for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        refused: set[str] = set()
        for name, key_node, child in entries(node, path, problems):
            where = f"{path}.{name}" if path else name
            if name not in fields:
                problems.note(where, key_node, unknown_key(name, list(fields)))
                continue
            shape: Shape[Any] = fields[name].metadata["shape"]
            before = len(problems.found)
            value = None if is_null(child) and not shape.takes_null else shape.decode(child, where, problems)
            if value is not None:
                values[name] = value
            elif len(problems.found) > before:
                refused.add(name)
        missing = [n for n, f in fields.items() if _required(f) and n not in values]
        for name in sorted(set(missing) - refused):
            problems.note(f"{path}.{name}" if path else name, node, "this key is required")
        return None if missing else schema(**values)

    return Shape("a mapping", {"type": "object"}, decode, takes_null=True)


def sections(schemas: Mapping[str, type[T]]) -> Shape[dict[str, T]]:
    """A mapping of names to sections, each with a schema of its own; what is not given is left out."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, T] | None:
        found: dict[str, T] = {}
        given = entries(node, path, problems)
        empty = [name for name, _, child in given if is_null(child)]
        for name, key_node, child in given:
            if name not in schemas:
                problems.note(f"{path}.{name}", key_node, unknown_key(name, list(schemas)))
            elif name in empty and len(given) > 1:
                problems.warn(f"{path}.{name}", key_node, "an empty section beside others does not count")
            elif (value := section(schemas[name]).decode(child, f"{path}.{name}", problems)) is not None:
                found[name] = value
        return found

    return Shape("a mapping", {"type": "object"}, decode, takes_null=True)


def _required(declared: dataclasses.Field[Any]) -> bool:
    return declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING


def unknown_key(name: str, known: Sequence[str]) -> str:
    """The problem of an unknown key, with the nearest known key."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "known are " + ", ".join(sorted(known))
    return f"unknown key `{name}`; {hint}"
