"""The agent's command line, decoded: a pure function of the arguments.

The worker builds it (`the agent's command line` in docs, the same for every
backend), and whatever follows from ``additional_oz_args`` may be unknown here: such
arguments are collected and never an error. A flag that takes a value takes the next
argument whatever it looks like, since that is how the worker writes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .duration import looks_like_duration, parse_duration
from .errors import UsageError

__all__ = ["FLAGS", "Command", "Flag", "HelpCommand", "Kind", "RunCommand", "VersionCommand", "parse_command"]


class Kind(Enum):
    """How many arguments a flag takes."""

    SWITCH = auto()
    VALUE = auto()
    DURATION = auto()
    OPTIONAL_DURATION = auto()


@dataclass(frozen=True)
class Flag:
    """One flag of ``agent run``; ``inert`` ones are accepted and change nothing here."""

    name: str
    kind: Kind
    metavar: str
    help: str
    inert: bool = False


FLAGS: Final = (
    Flag("--task-id", Kind.VALUE, "ID", "the run to fetch and carry out (default: $TASK_ID)"),
    Flag("--server-root-url", Kind.VALUE, "URL", "the control plane (default: $WARP_SERVER_ROOT_URL)"),
    Flag("--harness", Kind.VALUE, "NAME", "what runs the prompt; wins over the run's own choice"),
    Flag("--model", Kind.VALUE, "NAME", "model for the harness; wins over the run's own choice"),
    Flag("--mcp", Kind.VALUE, "JSON", "MCP servers by name, added to the run's own (repeatable)"),
    Flag("--sandboxed", Kind.SWITCH, "", "the surroundings are a sandbox: harnesses need not ask permission"),
    Flag("--share", Kind.VALUE, "WHO:WHAT", "session sharing (repeatable)", inert=True),
    Flag("--profile", Kind.VALUE, "ID", "agent profile", inert=True),
    Flag("--skill", Kind.VALUE, "SPEC", "skill", inert=True),
    Flag("--computer-use", Kind.SWITCH, "", "computer use on", inert=True),
    Flag("--no-computer-use", Kind.SWITCH, "", "computer use off", inert=True),
    Flag("--bedrock-inference-role", Kind.VALUE, "ARN", "AWS role for inference", inert=True),
    Flag("--bedrock-role-region", Kind.VALUE, "REGION", "AWS region of that role", inert=True),
    Flag("--no-snapshot", Kind.SWITCH, "", "no workspace snapshot", inert=True),
    Flag("--snapshot-upload-timeout", Kind.DURATION, "TIME", "limit of the snapshot's upload", inert=True),
    Flag("--snapshot-script-timeout", Kind.DURATION, "TIME", "limit of the snapshot's script", inert=True),
    Flag("--environment", Kind.VALUE, "ID", "environment", inert=True),
    Flag(
        "--idle-on-complete", Kind.OPTIONAL_DURATION, "[TIME]", "wait for follow-ups afterwards", inert=True
    ),
    Flag("--session-sharing-server-url", Kind.VALUE, "URL", "session sharing server", inert=True),
)
_BY_NAME: Final = {flag.name: flag for flag in FLAGS}


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """``agent run``: carry out one run.

    Times are in seconds. ``idle_timeout`` is None for the bare ``--idle-on-complete``.
    ``unknown`` holds the names of the flags that this runtime does not know, without
    their values: those could be secrets.
    """

    task_id: str | None = None
    server_root_url: str | None = None
    harness: str | None = None
    model: str | None = None
    mcp: tuple[str, ...] = ()
    sandboxed: bool = False
    share: tuple[str, ...] = ()
    profile: str | None = None
    skill: str | None = None
    computer_use: bool | None = None
    bedrock_inference_role: str | None = None
    bedrock_role_region: str | None = None
    snapshot: bool = True
    snapshot_upload_timeout: float | None = None
    snapshot_script_timeout: float | None = None
    environment: str | None = None
    idle_on_complete: bool = False
    idle_timeout: float | None = None
    session_sharing_server_url: str | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class HelpCommand:
    """A help text is wanted: for ``agent run``, or for the program."""

    of_run: bool


@dataclass(frozen=True)
class VersionCommand:
    """``--version``."""


Command = RunCommand | HelpCommand | VersionCommand


def parse_command(argv: Sequence[str]) -> Command:
    """Decode the arguments after the program's name.

    Raises:
        UsageError: no such command, a flag without its value, or a bad duration.
    """
    words: list[str] = []
    rest = list(argv)
    while rest and not rest[0].startswith("-") and len(words) < 2:
        words.append(rest.pop(0))
    if words == ["agent", "run"]:
        return _parse_run(rest)
    if words in ([], ["agent"]) and rest[:1] in (["-h"], ["--help"]):
        return HelpCommand(of_run=False)
    if not words and rest[:1] in (["-V"], ["--version"]):
        return VersionCommand()
    given = f"unknown command {' '.join(argv[:2])!r}" if argv else "no command"
    raise UsageError(f"{given}: `oz-agent agent run` carries out a run, `oz-agent --help` tells more")


def _parse_run(arguments: Sequence[str]) -> RunCommand | HelpCommand:
    given: dict[str, list[str]] = {}
    unknown: list[str] = []
    for name, value in _flags(arguments):
        if name in ("-h", "--help"):
            return HelpCommand(of_run=True)
        if name in _BY_NAME:
            given.setdefault(name, []).append((value or "").strip())
        else:
            unknown.append(name)
    return _run_command(given, tuple(dict.fromkeys(unknown)))


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield (flag, value) in order; arguments that belong to no known flag have no value."""
    position = 0
    values_belong_to_unknown = False
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if not word.startswith("-") or word == "-":
            if not values_belong_to_unknown:
                yield "a value without a flag", None
            continue
        name, equals, attached = word.partition("=")
        flag = _BY_NAME.get(name)
        values_belong_to_unknown = flag is None
        if flag is None or (flag.kind is Kind.SWITCH and not equals):
            yield name, None
        elif flag.kind is Kind.SWITCH:
            raise UsageError(f"{name} takes no value")
        elif equals:
            yield name, attached
        elif flag.kind is not Kind.OPTIONAL_DURATION:
            if position == len(arguments):
                raise UsageError(f"{name} needs a value: {name} {flag.metavar}")
            yield name, arguments[position]
            position += 1
        elif position < len(arguments) and not arguments[position].startswith("-"):
            # Never left over as a stray word: a misspelt duration must not pass in silence.
            yield name, arguments[position]
            position += 1
        else:
            yield name, None


def _run_command(given: dict[str, list[str]], unknown: tuple[str, ...]) -> RunCommand:
    def last(name: str) -> str | None:
        return next((value for value in reversed(given.get(name, [])) if value), None)

    def every(name: str) -> tuple[str, ...]:
        return tuple(value for value in given.get(name, []) if value)

    def seconds(name: str) -> float | None:
        value = last(name)
        if value is not None and not looks_like_duration(value):
            raise UsageError(f"{name}: {value[:40]!r}: a duration is numbers with units, such as 45m or 0s")
        return None if value is None else parse_duration(value)

    switches = [name for name in given if name in ("--computer-use", "--no-computer-use")]
    return RunCommand(
        task_id=last("--task-id"),
        server_root_url=last("--server-root-url"),
        harness=last("--harness"),
        model=last("--model"),
        mcp=every("--mcp"),
        sandboxed="--sandboxed" in given,
        share=every("--share"),
        profile=last("--profile"),
        skill=last("--skill"),
        computer_use=None if not switches else "--no-computer-use" not in switches,
        bedrock_inference_role=last("--bedrock-inference-role"),
        bedrock_role_region=last("--bedrock-role-region"),
        snapshot="--no-snapshot" not in given,
        snapshot_upload_timeout=seconds("--snapshot-upload-timeout"),
        snapshot_script_timeout=seconds("--snapshot-script-timeout"),
        environment=last("--environment"),
        idle_on_complete="--idle-on-complete" in given,
        idle_timeout=seconds("--idle-on-complete"),
        session_sharing_server_url=last("--session-sharing-server-url"),
        unknown=unknown,
    )
