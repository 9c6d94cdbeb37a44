"""Shapes: each decodes one YAML node and says what is wrong with it.

A shape never raises for bad input: it notes a problem and goes on, so that one run
shows every error of a file. A problem says where (the key's path and its line), what
was read and what is allowed.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import yaml

from .nodes import Problems, entries, is_null, plain, shown, written

__all__ = [
    "EnvEntry",
    "Shape",
    "boolean",
    "choice",
    "dns_label",
    "duration",
    "environment",
    "humantime",
    "integer",
    "is_quantity",
    "is_volume",
    "label_value",
    "list_of",
    "mapping_of",
    "parse_duration",
    "quantity",
    "raw_mapping",
    "section",
    "sections",
    "text",
    "unknown_key",
    "volume",
]

T = TypeVar("T")

_QUANTITY: Final = re.compile(r"\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")
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
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_ENV_KEY_BAD: Final = re.compile(r"[\s=\0]")


@dataclass(frozen=True, slots=True)
class EnvEntry:
    """A variable for a task; without a value the worker's own value is passed on."""

    name: str
    value: str | None = field(default=None, repr=False)  # may be a secret


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """Decodes a node; ``describe`` says in a few words what is allowed.

    ``decode`` gives ``None`` where the node cannot be used; the problem is noted then.
    """

    describe: str
    decode: Callable[[yaml.Node, str, Problems], T | None]
    takes_null: bool = False  # else a null leaves the key at its default


def _scalar(describe: str, convert: Callable[[Any], T | None]) -> Shape[T]:
    """Make a shape of a function that returns ``None`` for a value that is not allowed."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> T | None:
        value = plain(node)
        result = convert(value) if not isinstance(value, dict | list) else None
        if result is None:
            problems.note(path, node, f"read {shown(value)}, allowed is {describe}")
        return result

    return Shape(describe, decode)


def _textual(describe: str, allowed: Callable[[str], bool]) -> Shape[str]:
    """Make a shape of a text. A number counts as it was written: 1.10 is no 1.1."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> str | None:
        string = written(node)
        if string is None or not allowed(string):
            problems.note(path, node, f"read {shown(plain(node))}, allowed is {describe}")
            return None
        return string

    return Shape(describe, decode)


# ------------------------------------------------------------------------------- scalars


def text(*, no_space: bool = False, empty_is_none: bool = True) -> Shape[str]:
    """A string; a number counts as its text. With ``empty_is_none`` "" is the default."""

    def allowed(string: str) -> bool:
        return "\0" not in string and not (no_space and any(c.isspace() for c in string))

    shape = _textual("a string without white space" if no_space else "a string", allowed)
    return _empty_as_default(shape) if empty_is_none else shape


def _empty_as_default(shape: Shape[str]) -> Shape[str]:
    def decode(node: yaml.Node, path: str, problems: Problems) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.value.strip() == "":
            return None
        return shape.decode(node, path, problems)

    return Shape(shape.describe, decode)


def boolean() -> Shape[bool]:
    """true or false."""
    return _scalar("true or false", lambda v: v if isinstance(v, bool) else None)


def integer(*, minimum: int) -> Shape[int]:
    """A whole number that is not below ``minimum``."""

    def convert(value: Any) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= minimum else None

    return _scalar(f"a whole number, {minimum} or more", convert)


def choice(*allowed: str) -> Shape[str]:
    """One of some words."""
    shape = _scalar("one of " + ", ".join(allowed), lambda v: v if v in allowed else None)
    return _empty_as_default(shape)


def parse_duration(value: str) -> float | None:
    """Read a humantime or Go duration (``90s``, ``1h30m``) as seconds; ``None`` if it is none."""
    compact = value.replace(" ", "")
    if compact == "0":
        return 0.0
    parts = list(_DURATION.finditer(compact))
    if not parts or "".join(m.group(0) for m in parts) != compact:
        return None
    return sum(float(m.group(1)) * _SECONDS[m.group(2)] for m in parts)


def duration() -> Shape[float]:
    """A span of time, decoded as seconds."""
    return _scalar(
        "a duration such as 30s, 5m or 1h30m",
        lambda v: parse_duration(v) if isinstance(v, str) else 0.0 if v == 0 and v is not False else None,
    )


def humantime() -> Shape[str]:
    """A span of time that is passed on as it was written."""

    def convert(value: Any) -> str | None:
        return value if isinstance(value, str) and parse_duration(value) is not None else None

    return _empty_as_default(_scalar("a duration such as 45m or 0s", convert))


def quantity() -> Shape[str]:
    """A Kubernetes quantity, such as ``10Gi``."""
    return _empty_as_default(_textual("a Kubernetes quantity such as 10Gi or 500M", is_quantity))


def is_quantity(value: Any) -> bool:
    """Whether a value is the text of a quantity (apimachinery, resource.Quantity)."""
    return isinstance(value, str) and _QUANTITY.fullmatch(value) is not None


def dns_label() -> Shape[str]:
    """A namespace's name (RFC 1123 label)."""
    describe = "a name of a-z, 0-9 and -, 63 characters at most"
    return _empty_as_default(_textual(describe, lambda s: bool(_DNS_LABEL.fullmatch(s))))


def label_value() -> Shape[str]:
    """A label's value (Kubernetes: Labels and Selectors, syntax and character set)."""
    describe = "a label value (a-z, A-Z, 0-9, -, _, ., 63 at most, quoted where YAML sees no string)"
    return _textual(describe, lambda s: bool(_LABEL_VALUE.fullmatch(s)))


def volume() -> Shape[str]:
    """A Docker mount, ``HOST:CONTAINER[:ro or rw]``."""

    def convert(value: Any) -> str | None:
        return value if isinstance(value, str) and is_volume(value) else None

    return _scalar("HOST:CONTAINER, or with :ro or :rw", convert)


def is_volume(value: str) -> bool:
    """Whether a text is a mount of a host's path or volume at an absolute path."""
    parts = value.split(":")
    sound = len(parts) in {2, 3} and all(parts) and parts[1].startswith("/")
    return sound and (len(parts) == 2 or parts[2] in {"ro", "rw"})


# ---------------------------------------------------------------------------- containers


def list_of(item: Shape[T]) -> Shape[tuple[T, ...]]:
    """A list whose items all have one shape."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> tuple[T, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            problems.note(path, node, f"read {shown(plain(node))}, allowed is a list of {item.describe}")
            return None
        decoded = (item.decode(child, f"{path}[{i}]", problems) for i, child in enumerate(node.value))
        return tuple(value for value in decoded if value is not None)

    return Shape(f"a list of {item.describe}", decode)


def mapping_of(item: Shape[T]) -> Shape[dict[str, T]]:
    """A mapping from names to values that all have one shape."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, T] | None:
        decoded = (
            (name, item.decode(child, f"{path}.{name}", problems))
            for name, _, child in entries(node, path, problems)
        )
        return {name: value for name, value in decoded if value is not None}

    return Shape(f"a mapping of names to {item.describe}", decode)


def raw_mapping() -> Shape[Mapping[str, Any]]:
    """A mapping that is passed on as JSON: the API server checks it."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        value = plain(node)
        if not isinstance(value, dict):
            problems.note(path, node, f"read {shown(value)}, allowed is a mapping")
            return None
        try:
            document: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            # A date, a set, not a number, an alias of what it stands in.
            problems.note(path, node, f"this cannot be written as JSON: {error}")
            return None
        return document

    return Shape("a mapping", decode)


def environment() -> Shape[tuple[EnvEntry, ...]]:
    """A list of ``{name, value}``; without ``value`` the worker's own value is passed on.

    A problem never says what was read: it may be a secret.
    """
    variables = list_of(Shape("{name: A, value: b}", _env_entry))

    def decode(node: yaml.Node, path: str, problems: Problems) -> tuple[EnvEntry, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            problems.note(path, node, f"allowed is {variables.describe}")
            return None
        return variables.decode(node, path, problems)

    return Shape(variables.describe, decode)


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

    return Shape("a mapping", decode, takes_null=True)


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

    return Shape("a mapping", decode, takes_null=True)


def _required(declared: dataclasses.Field[Any]) -> bool:
    return declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING


def unknown_key(name: str, known: list[str]) -> str:
    """Say that a key is not known, and which one was perhaps meant."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "known are " + ", ".join(sorted(known))
    return f"unknown key `{name}`; {hint}"
