"""Takes the secrets out of what is kept as evidence of a task. Pure.

A Pod's spec holds the values of its variables in clear, and in the agent's arguments the keys
of MCP servers and whatever was passed through. They become ``***``, and wherever one of them
stands in a text besides, in a message or a log, it becomes that too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER

from .agent_arguments import HIDDEN, secrets_in, shown_and_hidden, without_userinfo

__all__ = ["HIDDEN", "Redactor", "redacted"]

_CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")
#: Holds the whole of an object once more (kubectl).
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_HARMLESS: Final = frozenset(
    {
        "GH_PROMPT_DISABLED",
        "GIT_TERMINAL_PROMPT",
        "HOME",
        "LANG",
        "LC_ALL",
        "PATH",
        "TASK_ID",
        "TERM",
        "TZ",
        "WARP_SERVER_ROOT_URL",
    }
)
_SOUNDS_SECRET: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
#: Shorter values, such as `1` or `true`, stand in too many texts that are no secrets.
_SHORTEST: Final = 8


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or (name.startswith("OZ_") and _SOUNDS_SECRET.search(name) is None)


class Redactor:
    """Hides what some Pods' specs (core/v1, PodSpec) hold of secrets: in variables, and in arguments."""

    def __init__(self, specs: Iterable[Mapping[str, Any]]) -> None:
        values = {text for spec in specs for value in _values(spec) for text in _forms(value)}
        # The longest first: a value may be part of another.
        ordered = sorted(values, key=lambda value: (-len(value), value))
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._bytes = re.compile(b"|".join(re.escape(v.encode()) for v in ordered)) if ordered else None

    def text(self, text: str) -> str:
        """Hide the values in a text."""
        return self._secrets.sub(HIDDEN, text) if self._secrets else text

    def log(self, log: bytes) -> bytes:
        """Hide the values in a log."""
        return self._bytes.sub(HIDDEN.encode(), log) if self._bytes else log

    def data(self, data: Any) -> Any:
        """Hide the values in all texts of plain data."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {key: self.data(value) for key, value in data.items()}
        return [self.data(item) for item in data] if isinstance(data, list | tuple) else data


def redacted(data: Any) -> Any:
    """An object of the API without its secrets in variables and arguments, or who wrote which field."""
    if isinstance(data, list | tuple):
        return [redacted(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if key == "env" and isinstance(value, list):
            kept[key] = [_entry(entry) for entry in value]
        elif key == "args" and data.get("name") == TASK_CONTAINER and isinstance(value, list):
            kept[key] = [shown for shown, _ in shown_and_hidden(map(str, value))]
        elif key == _LAST_APPLIED:
            kept[key] = HIDDEN
        elif key != "managedFields":
            kept[key] = redacted(value)
    return kept


def _entry(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or "value" not in entry:
        return entry
    return {**entry, "value": _shown_and_hidden(entry)[0]}


def _shown_and_hidden(variable: Mapping[str, Any]) -> tuple[Any, str]:
    """Of a variable's value what may be shown, and what is hidden of it."""
    value = variable["value"]
    if not _is_harmless(str(variable.get("name"))):
        return HIDDEN, value
    return without_userinfo(value) if isinstance(value, str) else (value, "")


def _values(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in _CONTAINER_LISTS:
        for container in spec.get(field) or ():
            for entry in container.get("env") or ():
                shown, hidden = _shown_and_hidden(entry) if entry.get("value") else ("", "")
                if hidden:
                    yield from (hidden,) if shown == HIDDEN else secrets_in(hidden)
            if container.get("name") == TASK_CONTAINER:
                for _, hidden in shown_and_hidden(container.get("args") or ()):
                    yield from secrets_in(hidden)


def _forms(value: str) -> Iterator[str]:
    """A value as it stands in a spec, where ``$`` may be doubled, as a program sees it, and by lines.

    Each also as it stands in a JSON document, such as a log of such lines.
    """
    for form in (value, value.replace("$$", "$")):
        for part in (form, *form.splitlines()):
            if len(part) >= _SHORTEST:
                yield part
                yield msgspec.json.encode(part)[1:-1].decode()
