"""Which of the agent's arguments may be shown, and what is hidden of the others. Pure.

The protocol's own arguments are known one by one (wire protocol, "The agent's command
line"); of these the MCP servers come with their keys. Whatever else stands on the command line
was passed through untouched: nobody here knows what it means, so that its values are hidden.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import unquote, unquote_plus, urlsplit

import msgspec

from oz_agent_worker.contract import AGENT_FLAGS, FlagKind
from oz_agent_worker.worker.task_spec import WORKSPACE

__all__ = ["HIDDEN", "secrets_in", "shown_and_hidden", "without_userinfo"]

HIDDEN: Final = "***"

_WORDS: Final = ("agent", "run")
_ALONE: Final = frozenset(flag.name for flag in AGENT_FLAGS if flag.kind is FlagKind.SWITCH)
_MCP: Final = "--mcp"
_IDLE: Final = "--idle-on-complete"
_WITH_VALUE: Final = frozenset(flag.name for flag in AGENT_FLAGS) - _ALONE - {_MCP, _IDLE}
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[smh]))+")
#: The name of an option; what is fused with a short one (`-psecret`) is none.
_OPTION: Final = re.compile(r"--[a-z][a-z0-9-]*|-[A-Za-z]")
_ASSIGNMENT: Final = re.compile(r"-{0,2}[A-Za-z_][\w.-]*=(.+)", re.DOTALL)
#: What stands before the host of a URL (RFC 3986, 3.2.1).
_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]+(?=@)")
#: Of an MCP server: what says how to reach it, and nothing of a key.
_HARMLESS: Final = frozenset({WORKSPACE})
_HARMLESS_KEYS: Final = frozenset({"command", "transport", "type"})
#: A command with arguments, or with a variable before it, is no mere name.
_MORE_THAN_A_NAME: Final = re.compile(r"[\s=]")
#: The most words of a value whose last one is taken for a key: `Authorization: Bearer KEY`.
_MOST_WORDS: Final = 3
#: What may stand around a word of a text, such as one of several cookies.
_PUNCTUATION: Final = "\"',;"
#: How often a value may hold another one: `--header=Cookie: sid=KEY` in a document.
_DEPTH: Final = 3


def shown_and_hidden(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield of each argument what may be shown, and the part that is hidden, empty where none is.

    An option outside the protocol shows its name alone; what follows it is hidden up to the
    next option, and so is a value that belongs to no option.
    """
    before = ""
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if before in _WITH_VALUE:
            yield without_userinfo(argument)
            before = ""
        elif (
            argument in _ALONE
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


def without_userinfo(text: str) -> tuple[str, str]:
    """A text whose URL, if it is one, shows no user and password; and these, empty where it has none."""
    found = _USERINFO.search(text)
    return (_USERINFO.sub(HIDDEN, text, count=1), found[0]) if found else (text, "")


def secrets_in(value: str) -> Iterator[str]:
    """Yield what stands for itself in a hidden value: the whole, and the keys that it is made of.

    A program that was given `Authorization: Bearer KEY` as JSON may print the header, or the
    key alone.
    """
    yield value
    for form in {value, value.replace("$$", "$")}:  # core/v1, Container.args: `$$(` stands for `$(`
        yield from _keys(form, _DEPTH)


def _keys(text: str, depth: int) -> Iterator[str]:
    """A text, and what of it may be a key; of a document, that of the texts in it."""
    yield text
    texts = _texts(text) if depth else None
    if texts is not None:
        for inner in texts:
            yield from _keys(inner, depth - 1)
        return
    words = text.split()
    if len(words) == 1:
        yield from _decoded(_after_user(text))
    elif len(words) <= _MOST_WORDS:
        yield from words[-1:]
    # Any word may be an address or an assignment: cookies are several in one text.
    for part in dict.fromkeys((text, *(word.strip(_PUNCTUATION) for word in words))):
        yield from _of_address(part)
        assigned = _ASSIGNMENT.fullmatch(part)
        if assigned is not None:
            yield from _keys(assigned[1], depth - 1) if depth else (assigned[1],)


def _of_address(text: str) -> Iterator[str]:
    """What may be a key in a URL: user, password, and what its query and its fragment hold."""
    if "//" not in text:
        return
    try:
        url = urlsplit(text)
    except ValueError:  # of a host in brackets that is no address
        return
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    pairs = [pair.partition("=") for part in (url.query, url.fragment) for pair in part.split("&")]
    for key in (user, password, *(value if equals else name for name, equals, value in pairs)):
        yield from _decoded(key)


def _after_user(text: str) -> str:
    """The password of `user:password`, as of `Key:value`; empty where it is none."""
    password = text.partition(":")[2]
    return "" if password.startswith("//") else password


def _decoded(key: str) -> Iterable[str]:
    """A key as it stands in a URL, and as it was before that; nothing of an empty one."""
    return dict.fromkeys((key, unquote(key), unquote_plus(key))) if key else ()


def _texts(text: str) -> list[str] | None:
    """The texts in the JSON document that a text is; ``None`` where it is none."""
    try:
        data = msgspec.json.decode(text)
        return list(_leaves(data)) if isinstance(data, dict | list) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _leaves(data: Any) -> Iterator[str]:
    """The texts and numbers in a document that may be keys."""
    match data:
        case str() if data not in _HARMLESS and not _OPTION.fullmatch(data):
            yield data
        case bool():
            return
        case int() | float():
            yield str(data)
        case dict():
            for key, value in data.items():
                if not (key in _HARMLESS_KEYS and _is_name(value)):
                    yield from _leaves(value)
        case list():
            for item in data:
                yield from _leaves(item)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and not _MORE_THAN_A_NAME.search(value)
