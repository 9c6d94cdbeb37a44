"""Which of the agent's arguments may be shown, and what is hidden of the others. Pure.

The protocol's own arguments are known one by one (wire protocol, "The agent's command
line"); of these the MCP servers come with their keys. Whatever else stands on the command line
was passed through untouched: nobody here knows what it means, so that its values are hidden.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from oz_agent_worker.core.taskspec import WORKSPACE

__all__ = ["HIDDEN", "secrets_in", "shown_and_hidden"]

HIDDEN: Final = "***"

_WORDS: Final = ("agent", "run")
_ALONE: Final = frozenset({"--computer-use", "--no-computer-use", "--no-snapshot", "--sandboxed"})
_WITH_VALUE: Final = frozenset(
    {
        "--bedrock-inference-role",
        "--bedrock-role-region",
        "--environment",
        "--harness",
        "--model",
        "--profile",
        "--server-root-url",
        "--session-sharing-server-url",
        "--share",
        "--skill",
        "--snapshot-script-timeout",
        "--snapshot-upload-timeout",
        "--task-id",
    }
)
_MCP: Final = "--mcp"
_IDLE: Final = "--idle-on-complete"
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[smh]))+")
#: The name of an option; what is fused with a short one (`-psecret`) is none.
_OPTION: Final = re.compile(r"--[a-z][a-z0-9-]*|-[A-Za-z]")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][\w.-]*=(.+)", re.DOTALL)
#: Of an MCP server: what says how to reach it, and nothing of a key.
_HARMLESS: Final = frozenset({WORKSPACE})
_HARMLESS_KEYS: Final = frozenset({"command", "transport", "type"})
#: The most words of a value whose last one is taken for a key: `Authorization: Bearer KEY`.
_MOST_WORDS: Final = 3


def shown_and_hidden(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield of each argument what may be shown, and the part that is hidden, empty where none is.

    An option outside the protocol shows its name alone; what follows it is hidden up to the
    next option, and so is a value that belongs to no option.
    """
    before = ""
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if (
            argument in _ALONE
            or before in _WITH_VALUE
            or (position < len(_WORDS) and argument == _WORDS[position])
            or (before == _IDLE and _DURATION.fullmatch(argument))
        ):
            yield argument, ""
            before = ""
        elif before != _MCP and _OPTION.fullmatch(option):
            yield (f"{option}={HIDDEN}", value) if equals else (argument, "")
            before = argument
        else:
            yield HIDDEN, argument
            before = ""


def secrets_in(value: str) -> Iterator[str]:
    """Yield what stands for itself in a hidden value: the whole, and the keys that it is made of.

    A program that was given `Authorization: Bearer KEY` as JSON may print the header, or the
    key alone.
    """
    yield value
    for form in {value, value.replace("$$", "$")}:  # core/v1, Container.args: `$$(` stands for `$(`
        for text in _texts(form):
            yield text
            words = text.split()
            if 1 < len(words) <= _MOST_WORDS:
                yield words[-1]
            assigned = _ASSIGNMENT.fullmatch(text)
            if assigned is not None:
                yield assigned[1]


def _texts(value: str) -> list[str]:
    """The texts in a JSON document; any other text is its own."""
    try:
        data = msgspec.json.decode(value)
        return list(_leaves(data)) if isinstance(data, dict | list) else [value]
    except (msgspec.DecodeError, RecursionError):
        return [value]


def _leaves(data: Any) -> Iterator[str]:
    match data:
        case str() if data not in _HARMLESS and not _OPTION.fullmatch(data):
            yield data
        case dict():
            for key, value in data.items():
                if not (isinstance(value, str) and key in _HARMLESS_KEYS):
                    yield from _leaves(value)
        case list():
            for item in data:
                yield from _leaves(item)
