"""Which of the agent's arguments may be shown, and what is hidden of the others. Pure.

The protocol's own arguments are known (``contract.AGENT_FLAGS``); of these, the MCP servers hold keys.
All others were passed on unread: their meaning is unknown, so their values are hidden.
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
#: The name of an option; a short one with its value fused to it (`-psecret`) is not.
_OPTION: Final = re.compile(r"--[a-z][a-z0-9-]*|-[A-Za-z]")
_ASSIGNMENT: Final = re.compile(r"-{0,2}[A-Za-z_][\w.-]*=(.+)", re.DOTALL)
#: User and password before the host of a URL (RFC 3986, 3.2.1).
_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]+(?=@)")
#: Of an MCP server: what says how to reach it, and holds no key.
_HARMLESS: Final = frozenset({WORKSPACE})
_HARMLESS_KEYS: Final = frozenset({"command", "transport", "type"})
#: A command with arguments, or with a variable before it, is more than a name.
_MORE_THAN_A_NAME: Final = re.compile(r"[\s=]")
#: Up to how many words of a value the last one counts as a key: `Authorization: Bearer KEY`.
_MOST_WORDS: Final = 3
#: Punctuation around a word of a text, such as one of several cookies.
_PUNCTUATION: Final = "\"',;"
#: How deep values may be nested: `--header=Cookie: sid=KEY` in a document.
_DEPTH: Final = 3


def shown_and_hidden(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield for each argument what may be shown, and what is hidden; empty if nothing is.

    Of an option outside the protocol only the name is shown; everything up to the next option is
    hidden, and so is a value that belongs to no option.
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
    """Return a text with user and password of its URL hidden, and what was hidden; empty if nothing was."""
    found = _USERINFO.search(text)
    return (_USERINFO.sub(HIDDEN, text, count=1), found[0]) if found else (text, "")


def secrets_in(value: str) -> Iterator[str]:
    """Yield the texts to hide for a hidden value: the whole, and the keys in it.

    A program that gets `Authorization: Bearer KEY` as JSON may print the header, or only the key.
    """
    yield value
    for form in {value, value.replace("$$", "$")}:  # core/v1, Container.args: `$$(` means a literal `$(`
        yield from _keys(form, _DEPTH)


def _keys(text: str, depth: int) -> Iterator[str]:
    """Yield a text and the parts of it that may be keys; ``depth`` is how often it may hold another text."""
    yield text
    document = _decode_document(text) if depth else None
    if document is not None:
        for inner in document:
            yield from _keys(inner, depth - 1)
        return
    words = text.split()
    if len(words) == 1:
        # The password of `user:password`, or the value of `Key:value`.
        password = text.partition(":")[2]
        yield from _decode_url("" if password.startswith("//") else password)
    elif len(words) <= _MOST_WORDS:
        yield from words[-1:]
    # Any word may be a URL or an assignment: one text may hold several cookies.
    for part in dict.fromkeys((text, *(word.strip(_PUNCTUATION) for word in words))):
        yield from _keys_of_url(part)
        assigned = _ASSIGNMENT.fullmatch(part)
        if assigned is not None:
            yield from _keys(assigned[1], depth - 1) if depth else (assigned[1],)


def _keys_of_url(text: str) -> Iterator[str]:
    """Yield what may be a key in a URL: user, password, and the values of query and fragment."""
    if "//" not in text:
        return
    try:
        url = urlsplit(text)
    except ValueError:  # a host in brackets that is no address
        return
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    pairs = [pair.partition("=") for part in (url.query, url.fragment) for pair in part.split("&")]
    for key in (user, password, *(value if equals else name for name, equals, value in pairs)):
        yield from _decode_url(key)


def _decode_url(key: str) -> Iterable[str]:
    """Return a key as a URL has it and as it was before it was encoded; nothing for an empty one."""
    return dict.fromkeys((key, unquote(key), unquote_plus(key))) if key else ()


def _decode_document(text: str) -> list[str] | None:
    """Return the texts of a JSON object or array; ``None`` if the text is none."""
    try:
        data = msgspec.json.decode(text)
        return list(_leaves(data)) if isinstance(data, dict | list) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _leaves(data: Any) -> Iterator[str]:
    """Yield the texts and numbers of a document that may be keys."""
    match data:
        case str() if data not in _HARMLESS and not _OPTION.fullmatch(data):
            yield data
        case bool():
            return
        case int() | float():
            yield str(data)
        case dict():
            for key, value in data.items():
                is_name = isinstance(value, str) and not _MORE_THAN_A_NAME.search(value)
                if not (key in _HARMLESS_KEYS and is_name):
                    yield from _leaves(value)
        case list():
            for item in data:
                yield from _leaves(item)
