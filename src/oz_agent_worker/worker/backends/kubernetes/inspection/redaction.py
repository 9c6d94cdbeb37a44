"""Hides secrets in the evidence of a task. Pure.

A Pod's spec holds the values of variables in clear text, and in the agent's arguments the keys of MCP
servers and all that was passed on unread. They become ``***``, and so does each occurrence of such a
value in a message or a log.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER

from .agent_arguments import HIDDEN, secrets_in, shown_and_hidden, without_userinfo

__all__ = ["HIDDEN", "Redactor"]

_CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")
#: kubectl stores the whole object in it once more.
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
#: Shorter values, such as `1` or `true`, occur in too many texts that are no secrets.
_SHORTEST: Final = 8


class Redactor:
    """Hides the secrets of some Pods' specs (core/v1, PodSpec): of their variables and arguments."""

    def __init__(self, specs: Iterable[Mapping[str, Any]]) -> None:
        values = {text for spec in specs for value in _secrets(spec) for text in _forms(value)}
        # The longest first: a value may be part of another.
        ordered = sorted(values, key=lambda value: (-len(value), value))
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._bytes = re.compile(b"|".join(re.escape(v.encode()) for v in ordered)) if ordered else None

    def text(self, text: str) -> str:
        """Hide the secrets in a text."""
        return self._secrets.sub(HIDDEN, text) if self._secrets else text

    def log(self, log: bytes) -> bytes:
        """Hide the secrets in a log."""
        return self._bytes.sub(HIDDEN.encode(), log) if self._bytes else log

    def data(self, data: Any) -> Any:
        """Hide the secrets in plain data: in all texts, and in variables and arguments of containers.

        ``managedFields``, who wrote which field, is left out.
        """
        match data:
            case str():
                return self.text(data)
            case list() | tuple():
                return [self.data(item) for item in data]
            case Mapping():
                container = data.get("name") if isinstance(data.get("args"), list) else None
                return {
                    key: self._member(key, value, of_task=container == TASK_CONTAINER)
                    for key, value in data.items()
                    if key != "managedFields"
                }
        return data

    def _member(self, key: Any, value: Any, *, of_task: bool) -> Any:
        if key == _LAST_APPLIED:
            return HIDDEN
        if key == "env" and isinstance(value, list):
            value = [_show_variable(entry) for entry in value]
        elif key == "args" and of_task:
            value = [shown for shown, _ in shown_and_hidden(map(str, value))]
        return self.data(value)


def _show_variable(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or "value" not in entry:
        return entry
    return {**entry, "value": _split_variable(entry)[0]}


def _split_variable(variable: Mapping[str, Any]) -> tuple[Any, str]:
    """Return what of a variable's value may be shown, and what is hidden."""
    name, value = str(variable.get("name")), variable["value"]
    harmless = name in _HARMLESS or (name.startswith("OZ_") and not _SOUNDS_SECRET.search(name))
    if not harmless:
        return HIDDEN, value
    return without_userinfo(value) if isinstance(value, str) else (value, "")


def _secrets(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the hidden values of a Pod's spec."""
    for container in (item for field in _CONTAINER_LISTS for item in spec.get(field) or ()):
        for entry in container.get("env") or ():
            shown, hidden = _split_variable(entry) if entry.get("value") else ("", "")
            if hidden:
                yield from (hidden,) if shown == HIDDEN else secrets_in(hidden)
        if container.get("name") == TASK_CONTAINER:
            for _, hidden in shown_and_hidden(container.get("args") or ()):
                yield from secrets_in(hidden)


def _forms(value: str) -> Iterator[str]:
    """Yield the forms in which a value may occur.

    In a spec ``$`` may be doubled; a log may have its lines apart; a JSON document escapes it.
    """
    for form in (value, value.replace("$$", "$")):
        for part in (form, *form.splitlines()):
            if len(part) >= _SHORTEST:
                yield part
                yield msgspec.json.encode(part)[1:-1].decode()
