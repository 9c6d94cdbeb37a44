"""Shapes: each decodes one YAML node and says what is wrong with it.

A shape never raises for bad input: it notes a problem and goes on, so that one run
shows every error of a file. A problem says where (the key's path and its line), what
was read and what is allowed.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import yaml

__all__ = [
    "EnvEntry",
    "Problems",
    "Shape",
    "boolean",
    "choice",
    "dns_label",
    "duration",
    "environment",
    "humantime",
    "integer",
    "label_value",
    "list_of",
    "mapping_of",
    "parse_duration",
    "quantity",
    "raw_mapping",
    "section",
    "text",
    "volume",
]

T = TypeVar("T")

_QUANTITY: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(m|[kKMGTPE]i?|n|u|[eE][+-]?\d+)?")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|sec|m|min|h|hr|d|day|days)")
_SECONDS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0,
    "h": 3600.0, "hr": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_ENV_KEY_BAD: Final = re.compile(r"[\s=\0]")


@dataclass(frozen=True, slots=True)
class EnvEntry:
    """A variable for a task; without a value the worker's own value is passed on."""

    name: str
    value: str | None = field(default=None, repr=False)  # may be a secret


@dataclass(slots=True)
class Problems:
    """Collects what is wrong, in the order of the file. ``source`` names the file."""

    source: str
    found: list[str] = field(default_factory=list)

    def note(self, path: str, node: yaml.Node | None, what: str) -> None:
        """Note a problem of the value at ``path``."""
        where = f"{self.source}:{node.start_mark.line + 1}: " if node is not None else ""
        self.found.append(f"{where}{path}: {what}" if path else f"{where}{what}")


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
        value = _plain(node)
        result = convert(value) if not isinstance(value, dict | list) else None
        if result is None:
            problems.note(path, node, f"read {_shown(value)}, allowed is {describe}")
        return result

    return Shape(describe, decode)


def _plain(node: yaml.Node) -> Any:
    """Turn a composed node into plain data, with YAML's safe types alone."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError):
        return getattr(node, "value", None)
    finally:
        loader.dispose()


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text_ = repr(value)
    return text_ if len(text_) <= 80 else text_[:77] + "..."


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


# ------------------------------------------------------------------------------- scalars


def text(*, no_space: bool = False, empty_is_none: bool = True) -> Shape[str]:
    """A string; a number counts as its text. With ``empty_is_none`` "" is the default."""

    def convert(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        string = str(value)
        if "\0" in string or (no_space and any(c.isspace() for c in string)):
            return None
        return string

    shape = _scalar("a string without white space" if no_space else "a string", convert)
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
    """A Kubernetes quantity, such as ``10Gi`` (apimachinery, resource.Quantity)."""

    def convert(value: Any) -> str | None:
        string = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        return string if _QUANTITY.fullmatch(string) and not string.startswith("-") else None

    return _empty_as_default(_scalar("a Kubernetes quantity such as 10Gi or 500M", convert))


def dns_label() -> Shape[str]:
    """A namespace's name (RFC 1123 label)."""
    shape = _scalar(
        "a name of a-z, 0-9 and -, 63 characters at most",
        lambda v: v if isinstance(v, str) and _DNS_LABEL.fullmatch(v) else None,
    )
    return _empty_as_default(shape)


def label_value() -> Shape[str]:
    """A label's value (Kubernetes: Labels and Selectors, syntax and character set)."""

    def convert(value: Any) -> str | None:
        string = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        return string if string is not None and _LABEL_VALUE.fullmatch(string) else None

    return _scalar(
        "a label value (a-z, A-Z, 0-9, -, _, ., 63 at most, quoted where YAML sees no string)", convert
    )


def volume() -> Shape[str]:
    """A Docker mount, ``HOST:CONTAINER[:ro or rw]``."""

    def convert(value: Any) -> str | None:
        parts = value.split(":") if isinstance(value, str) else []
        sound = len(parts) in {2, 3} and all(parts) and parts[1].startswith("/")
        return value if sound and (len(parts) == 2 or parts[2] in {"ro", "rw"}) else None

    return _scalar("HOST:CONTAINER, or with :ro or :rw", convert)


# ---------------------------------------------------------------------------- containers


def list_of(item: Shape[T]) -> Shape[tuple[T, ...]]:
    """A list whose items all have one shape."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> tuple[T, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            problems.note(path, node, f"read {_shown(_plain(node))}, allowed is a list of {item.describe}")
            return None
        decoded = (item.decode(child, f"{path}[{i}]", problems) for i, child in enumerate(node.value))
        return tuple(value for value in decoded if value is not None)

    return Shape(f"a list of {item.describe}", decode)


def mapping_of(item: Shape[T]) -> Shape[dict[str, T]]:
    """A mapping from names to values that all have one shape."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> dict[str, T] | None:
        pairs = _pairs(node, path, problems)
        decoded = ((name, item.decode(child, f"{path}.{name}", problems)) for name, _, child in pairs)
        return {name: value for name, value in decoded if value is not None}

    return Shape(f"a mapping of names to {item.describe}", decode)


def raw_mapping() -> Shape[Mapping[str, Any]]:
    """A mapping that is passed on as it is: the API server checks it."""

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        value = _plain(node)
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            problems.note(path, node, f"read {_shown(value)}, allowed is a mapping")
            return None
        return value

    return Shape("a mapping", decode)


def environment() -> Shape[tuple[EnvEntry, ...]]:
    """A list of ``{name, value}``; without ``value`` the worker's own value is passed on."""
    return list_of(Shape("{name: A, value: b}", _env_entry))


def _env_entry(node: yaml.Node, path: str, problems: Problems) -> EnvEntry | None:
    name: str | None = None
    value: str | None = None
    for key, key_node, child in _pairs(node, path, problems):
        if key == "name":
            name = text().decode(child, f"{path}.name", problems)
        elif key == "value":
            value = None if _is_null(child) else str(getattr(child, "value", ""))
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
        for name, key_node, child in _pairs(node, path, problems):
            where = f"{path}.{name}" if path else name
            if name not in fields:
                problems.note(where, key_node, unknown_key(name, list(fields)))
                continue
            shape: Shape[Any] = fields[name].metadata["shape"]
            value = None if _is_null(child) and not shape.takes_null else shape.decode(child, where, problems)
            if value is not None:
                values[name] = value
        missing = [n for n, f in fields.items() if _required(f) and n not in values]
        for name in missing:
            problems.note(f"{path}.{name}" if path else name, node, "this key is required")
        return None if missing else schema(**values)

    return Shape("a mapping", decode, takes_null=True)


def _required(declared: dataclasses.Field[Any]) -> bool:
    return declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING


def unknown_key(name: str, known: list[str]) -> str:
    """Say that a key is not known, and which one was perhaps meant."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "known are " + ", ".join(sorted(known))
    return f"unknown key `{name}`; {hint}"


def _pairs(node: yaml.Node, path: str, problems: Problems) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """Give the entries of a mapping node; a null is an empty one, a doubled key a problem."""
    if _is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        problems.note(path, node, f"read {_shown(_plain(node))}, allowed is a mapping")
        return []
    pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
    seen: set[str] = set()
    for key_node, value in node.value:
        name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
        if name in seen:
            problems.note(f"{path}.{name}" if path else name, key_node, "this key stands twice")
        seen.add(name)
        pairs.append((name, key_node, value))
    return pairs
