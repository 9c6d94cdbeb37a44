"""Shapes: each decodes one YAML node and says what is wrong with it.

A shape never raises for bad input. It notes a problem and goes on, so that one run shows every
error of a file. A problem says where it is (the key's path and its line), what was read, and what
is allowed.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import yaml

from .nodes import Problems, entries, is_null, plain, shown, written

__all__ = [
    "EnvEntry",
    "Shape",
    "boolean",
    "choice",
    "duration",
    "environment",
    "humantime",
    "integer",
    "is_volume",
    "list_of",
    "mapping_of",
    "parse_duration",
    "raw_mapping",
    "section",
    "sections",
    "string",
    "text",
    "unknown_key",
    "volume",
]

T = TypeVar("T")

#: Units of Go's time.ParseDuration and of the humantime crate, with their seconds.
_SECONDS: Final = {
    unit: seconds
    for units, seconds in (
        ("nsec ns", 1e-9), ("usec us µs", 1e-6), ("msec ms", 1e-3),
        ("seconds second secs sec s", 1.0), ("minutes minute mins min m", 60.0),
        ("hours hour hrs hr h", 3600.0), ("days day d", 86400.0), ("weeks week wks wk w", 604800.0),
        ("months month M", 2630016.0), ("years year yrs yr y", 31557600.0),
    )
    for unit in units.split()
}  # fmt: skip
_DURATION: Final = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)(" + "|".join(sorted(_SECONDS, key=len, reverse=True)) + ")"
)
#: What ``parse_duration`` takes, units aside.
_DURATION_SCHEMA: Final = {"type": "string", "pattern": r"^(0|([0-9]+(\.[0-9]+)? *[A-Za-zµ]+ *)+)$"}
_ENV_KEY_BAD: Final = re.compile(r"[\s=\0]")


_ENV_ENTRY_SCHEMA: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1}, "value": {"type": "string"}},
}


@dataclass(frozen=True, slots=True)
class EnvEntry:
    """A variable for a task; without a value the worker's own value is passed on."""

    name: str
    value: str | None = field(default=None, repr=False)  # may be a secret


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """Decodes a YAML node.

    ``describe`` says in a few words what is allowed, and ``schema`` says it as JSON Schema.
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
    read: Callable[[yaml.Node], Any] = plain,
    empty_is_none: bool = False,
) -> Shape[T]:
    """Make a shape of a function that returns ``None`` for a value that is not allowed.

    With ``empty_is_none`` an empty string leaves the key at its default.
    """

    def decode(node: yaml.Node, path: str, problems: Problems) -> T | None:
        if empty_is_none and isinstance(node, yaml.ScalarNode) and node.value.strip() == "":
            return None
        value = read(node)
        result = convert(value) if not isinstance(value, dict | list) else None
        if result is None:
            problems.note(path, node, f"read {shown(plain(node))}, allowed is {describe}")
        return result

    return Shape(describe, schema, decode)


def string(
    describe: str,
    schema: Mapping[str, Any],
    allowed: Callable[[str], bool],
    *,
    numbers: bool = True,
    empty_is_none: bool = True,
) -> Shape[str]:
    """A string that is ``allowed``. With ``numbers`` a number counts as it was written: 1.10 is not 1.1."""
    return _scalar(
        describe,
        {"type": "string", **schema},
        lambda value: value if isinstance(value, str) and allowed(value) else None,
        read=written if numbers else plain,
        empty_is_none=empty_is_none,
    )


# ------------------------------------------------------------------------------- scalars


def text(*, no_space: bool = False, empty_is_none: bool = True) -> Shape[str]:
    """A string; a number counts as its text. With ``empty_is_none`` "" is the default."""
    if no_space:
        return string(
            "a string without white space",
            {"pattern": r"^\S*$"},
            lambda s: "\0" not in s and not any(c.isspace() for c in s),
            empty_is_none=empty_is_none,
        )
    return string("a string", {}, lambda s: "\0" not in s, empty_is_none=empty_is_none)


def boolean() -> Shape[bool]:
    """true or false."""
    return _scalar("true or false", {"type": "boolean"}, lambda v: v if isinstance(v, bool) else None)


def integer(*, minimum: int) -> Shape[int]:
    """A whole number that is not below ``minimum``."""

    def convert(value: Any) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= minimum else None

    schema = {"type": "integer", "minimum": minimum}
    return _scalar(f"a whole number, {minimum} or more", schema, convert)


def choice(*allowed: str) -> Shape[str]:
    """One of some words."""
    describe = "one of " + ", ".join(allowed)
    return _scalar(
        describe, {"enum": list(allowed)}, lambda v: v if v in allowed else None, empty_is_none=True
    )


def parse_duration(value: str) -> float | None:
    """Read a humantime or Go duration (``90s``, ``1h30m``) as seconds; ``None`` if it is not one."""
    compact = value.replace(" ", "")
    if compact == "0":
        return 0.0
    parts = list(_DURATION.finditer(compact))
    if not parts or "".join(m.group(0) for m in parts) != compact:
        return None
    return sum(float(m.group(1)) * _SECONDS[m.group(2)] for m in parts)


def duration() -> Shape[float]:
    """A duration, decoded as seconds."""
    return _scalar(
        "a duration such as 30s, 5m or 1h30m",
        _DURATION_SCHEMA,
        lambda v: parse_duration(v) if isinstance(v, str) else 0.0 if v == 0 and v is not False else None,
    )


def humantime() -> Shape[str]:
    """A duration that is passed on as it was written."""
    schema = {"anyOf": [{"const": ""}, _DURATION_SCHEMA]}
    return _scalar(
        "a duration such as 45m or 0s",
        schema,
        lambda v: v if isinstance(v, str) and parse_duration(v) is not None else None,
        empty_is_none=True,
    )


def volume() -> Shape[str]:
    """A Docker mount, ``HOST:CONTAINER[:ro or rw]``."""
    describe = "HOST:CONTAINER, or with :ro or :rw"
    return string(describe, {}, is_volume, numbers=False, empty_is_none=False)


def is_volume(value: str) -> bool:
    """Whether a text is a mount of a host's path or volume at an absolute path."""
    parts = value.split(":")
    sound = len(parts) in {2, 3} and all(parts) and parts[1].startswith("/")
    return sound and (len(parts) == 2 or parts[2] in {"ro", "rw"})


# ---------------------------------------------------------------------------- containers


def list_of(item: Shape[T], *, secret: bool = False) -> Shape[tuple[T, ...]]:
    """A list whose items all have one shape. A problem does not show a ``secret`` value."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> tuple[T, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            read = "" if secret else f"read {shown(plain(node))}, "
            problems.note(path, node, f"{read}allowed is a list of {item.describe}")
            return None
        decoded = (item.decode(child, f"{path}[{i}]", problems) for i, child in enumerate(node.value))
        return tuple(value for value in decoded if value is not None)

    return Shape(f"a list of {item.describe}", {"type": "array", "items": item.schema}, decode)


def mapping_of(item: Shape[T]) -> Shape[dict[str, T]]:
    """A mapping from names to values that all have one shape."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, T] | None:
        decoded = (
            (name, item.decode(child, f"{path}.{name}", problems))
            for name, _, child in entries(node, path, problems)
        )
        return {name: value for name, value in decoded if value is not None}

    schema = {"type": "object", "additionalProperties": item.schema}
    return Shape(f"a mapping of names to {item.describe}", schema, decode)


def raw_mapping() -> Shape[Mapping[str, Any]]:
    """A mapping that is passed on as JSON, and checked by the API server."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        value = plain(node)
        if not isinstance(value, dict):
            problems.note(path, node, f"read {shown(value)}, allowed is a mapping")
            return None
        try:
            document: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            # Such as a date, a set, NaN, or an alias of a mapping that contains it.
            problems.note(path, node, f"this cannot be written as JSON: {error}")
            return None
        return document

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
            name = written(child)
        elif key == "value":
            value = str(child.value) if isinstance(child, yaml.ScalarNode) and not is_null(child) else None
            if not isinstance(child, yaml.ScalarNode) or "\0" in child.value:
                problems.note(f"{path}.value", child, "allowed is a string")
        else:
            problems.note(f"{path}.{key}", key_node, unknown_key(key, ["name", "value"]))
    if not name or _ENV_KEY_BAD.search(name):
        problems.note(f"{path}.name", node, "allowed is a variable's name, without white space or =")
        return None
    return EnvEntry(name, value)


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
        for name, key_node, child in entries(node, path, problems):
            if name not in schemas:
                problems.note(f"{path}.{name}", key_node, unknown_key(name, list(schemas)))
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
