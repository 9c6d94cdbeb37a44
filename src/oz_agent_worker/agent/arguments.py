"""The agent's command line, decoded: a pure function of the arguments.

``contract.AGENT_FLAGS`` lists the flags. Whatever ``additional_oz_args`` adds may be unknown here: such
arguments are collected and never an error. A flag with a value takes the next argument whatever it looks
like, because the worker writes it so.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker import __version__
from oz_agent_worker.contract import AGENT_FLAGS, FlagKind

from .errors import AgentUsageError
from .help_text import PROGRAM_HELP, run_help

__all__ = ["RunCommand", "is_duration", "parse_command"]

_BY_NAME: Final = {flag.name: flag for flag in AGENT_FLAGS}
#: Durations as the Rust crate ``humantime`` writes them: 45m, 1h 30m, 0s.
_DURATION: Final = re.compile(
    r"\s*(?:[0-9]+\s*(?:nanos|nsec|ns|micros|usec|us|millis|msec|ms|seconds|second|secs|sec|s"
    r"|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w"
    r"|months|month|M|years|year|yrs|yr|y)(?![A-Za-z])\s*)+|\s*0\s*",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """``agent run``: carry out one run. An empty text means that a flag is absent or blank.

    ``unsupported`` names the flags that are ignored although the result may differ. ``unknown`` names the
    flags that this runtime does not know, without their values: those could be secrets.
    """

    task_id: str = ""
    server_root_url: str = ""
    harness: str = ""
    model: str = ""
    mcp: tuple[str, ...] = ()
    sandboxed: bool = False
    unsupported: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def parse_command(argv: Sequence[str]) -> RunCommand | str:
    """Decode the arguments after the program's name: a run to carry out, or a text to print.

    Raises:
        AgentUsageError: no such command, a flag without its value, or a bad duration.
    """
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv[:2]))
    rest = list(argv[len(words) :])
    if words == ["agent", "run"]:
        return _parse_run(rest)
    if words in ([], ["agent"]) and rest[:1] in (["-h"], ["--help"]):
        return PROGRAM_HELP
    if not words and rest[:1] in (["-V"], ["--version"]):
        return f"oz-agent {__version__}\n"
    given = f"unknown command {' '.join(argv[:2])!r}" if argv else "no command"
    raise AgentUsageError(f"{given}: `oz-agent agent run` carries out a run, see `oz-agent --help`")


def is_duration(text: str) -> bool:
    """Whether a text is a duration: numbers with units, or 0."""
    return _DURATION.fullmatch(text) is not None


def _parse_run(arguments: Sequence[str]) -> RunCommand | str:
    values: dict[str, list[str]] = {name: [] for name in _BY_NAME}
    unknown: list[str] = []
    for name, value in _flags(arguments):
        if name in ("-h", "--help"):
            return run_help()
        if name not in _BY_NAME:
            unknown.append(name)
        elif value.strip():
            values[name].append(value.strip())
    last = {name: found[-1] if found else "" for name, found in values.items()}
    for flag in AGENT_FLAGS:
        value = last[flag.name]
        if flag.kind in (FlagKind.DURATION, FlagKind.OPTIONAL_DURATION) and value and not is_duration(value):
            raise AgentUsageError(
                f"{flag.name}: {value[:40]!r}: a duration is numbers with units, such as 45m or 0s"
            )
    return RunCommand(
        task_id=last["--task-id"],
        server_root_url=last["--server-root-url"],
        harness=last["--harness"],
        model=last["--model"],
        mcp=tuple(values["--mcp"]),
        sandboxed=bool(last["--sandboxed"]),
        unsupported=tuple(flag.name for flag in AGENT_FLAGS if flag.support == "warned" and last[flag.name]),
        unknown=tuple(dict.fromkeys(unknown)),
    )


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (flag, value) in order; the value of a switch is ``on``, that of an unknown flag is empty."""
    position = 0
    values_belong_to_unknown = False
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if not word.startswith("-") or word == "-":
            if not values_belong_to_unknown:
                yield "a value without a flag", ""
            continue
        name, equals, value = word.partition("=")
        flag = _BY_NAME.get(name)
        values_belong_to_unknown = flag is None
        if flag is None or equals:
            if flag is not None and flag.kind is FlagKind.SWITCH:
                raise AgentUsageError(f"{name} takes no value")
            yield name, value if flag else ""
            continue
        if flag.kind is FlagKind.SWITCH:
            value = "on"
        elif flag.kind is not FlagKind.OPTIONAL_DURATION and position == len(arguments):
            raise AgentUsageError(f"{name} needs a value: {name} {flag.metavar}")
        elif flag.kind is not FlagKind.OPTIONAL_DURATION or not _is_option(arguments[position:]):
            # Any word after an optional duration is its value: a misspelt duration must be an error.
            value = arguments[position]
            position += 1
        yield name, value


def _is_option(rest: Sequence[str]) -> bool:
    """Whether the next argument is an option, or there is none."""
    return not rest or rest[0].startswith("-")
