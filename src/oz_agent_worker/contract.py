"""What the worker and the agent runtime say to each other: the agent's command line, and what fits on one.

Standard library alone.

The worker writes these flags, the same for every backend, and the agent reads them. Source: the command
line of the public service's agent, which docs/protocol.md describes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal

__all__ = ["AGENT_FLAGS", "MAX_ARGUMENT_BYTES", "AgentFlag", "FlagKind", "argument_name", "exec_problem"]

#: Linux passes no argument and no variable (``NAME=value``) of this many bytes or more to a program,
#: its final zero included (execve(2), MAX_ARG_STRLEN).
MAX_ARGUMENT_BYTES: Final = 128 * 1024
_FLAG: Final = re.compile(r"--?[A-Za-z][A-Za-z0-9-]{0,60}", re.ASCII)


class FlagKind(Enum):
    """How many arguments a flag takes, and of which kind."""

    SWITCH = auto()
    VALUE = auto()
    DURATION = auto()
    OPTIONAL_DURATION = auto()


@dataclass(frozen=True, slots=True)
class AgentFlag:
    """One flag of ``agent run``.

    ``support`` is what our agent does with it: ``used``; ``ignored``, where that does not change the
    result; ``warned``, where the agent ignores it and says so, because the result may differ.
    """

    name: str
    kind: FlagKind
    metavar: str
    help: str
    support: Literal["used", "ignored", "warned"] = "ignored"


_SWITCH, _VALUE, _DURATION = FlagKind.SWITCH, FlagKind.VALUE, FlagKind.DURATION

AGENT_FLAGS: Final = (
    AgentFlag("--task-id", _VALUE, "ID", "the run to fetch and carry out (default: $TASK_ID)", "used"),
    AgentFlag(
        "--server-root-url", _VALUE, "URL", "the control plane (default: $WARP_SERVER_ROOT_URL)", "used"
    ),
    AgentFlag("--harness", _VALUE, "NAME", "what runs the prompt; wins over the run's own choice", "used"),
    AgentFlag("--model", _VALUE, "NAME", "model for the harness; wins over the run's own choice", "used"),
    AgentFlag("--mcp", _VALUE, "JSON", "MCP servers by name, added to the run's own (repeatable)", "used"),
    AgentFlag("--sandboxed", _SWITCH, "", "the task is a sandbox: harnesses need not ask permission", "used"),
    AgentFlag("--share", _VALUE, "WHO:WHAT", "session sharing (repeatable)"),
    AgentFlag("--skill", _VALUE, "SPEC", "skill", "warned"),
    AgentFlag("--profile", _VALUE, "ID", "agent profile", "warned"),
    AgentFlag("--computer-use", _SWITCH, "", "computer use on"),
    AgentFlag("--no-computer-use", _SWITCH, "", "computer use off"),
    AgentFlag("--bedrock-inference-role", _VALUE, "ARN", "AWS role for inference", "warned"),
    AgentFlag("--bedrock-role-region", _VALUE, "REGION", "AWS region of that role"),
    AgentFlag("--no-snapshot", _SWITCH, "", "no workspace snapshot"),
    AgentFlag("--snapshot-upload-timeout", _DURATION, "TIME", "limit of the snapshot's upload"),
    AgentFlag("--snapshot-script-timeout", _DURATION, "TIME", "limit of the snapshot's script"),
    AgentFlag("--environment", _VALUE, "ID", "environment"),
    AgentFlag(
        "--idle-on-complete", FlagKind.OPTIONAL_DURATION, "[TIME]", "wait for follow-ups after the run"
    ),
    AgentFlag("--session-sharing-server-url", _VALUE, "URL", "session sharing server"),
)


def argument_name(arguments: Sequence[str], position: int) -> str:
    """Name an argument without its value: by the flag that it has or follows, else by its position."""
    flag, equals, _ = arguments[position].partition("=")
    if equals and _FLAG.fullmatch(flag):
        return f"the value of {flag}"
    before = arguments[position - 1] if position else ""
    return f"the value of {before}" if _FLAG.fullmatch(before) else f"argument {position + 1}"


def exec_problem(
    arguments: Sequence[str], variables: Iterable[tuple[str, int]], total: int | None = None
) -> str | None:
    """Say why Linux cannot pass these to a program, if so (execve(2)).

    ``variables`` are names, each with the size of its value in bytes. ``total`` is the most that
    all may have together, in bytes: a quarter of the stack's limit. No value is quoted.
    """
    sizes = [(len(text.encode("utf-8", "surrogatepass")) + 1, i) for i, text in enumerate(arguments)]
    named = [(len(name.encode("utf-8", "surrogatepass")) + size + 2, name) for name, size in variables]
    for size, position in sizes:
        if size > MAX_ARGUMENT_BYTES:
            return f"{argument_name(arguments, position)} has {size - 1} bytes, and {_LIMIT} argument"
    for size, name in named:
        if size > MAX_ARGUMENT_BYTES:
            return f"the variable {name} has {size - 1} bytes with its name, and {_LIMIT} variable"
    # Each string has a pointer to it as well.
    whole = sum(size + 8 for size, _ in sizes) + sum(size + 8 for size, _ in named)
    if total is not None and whole > total:
        parts = [(size, argument_name(arguments, i)) for size, i in sizes]
        largest = max(parts + [(size, f"the variable {name}") for size, name in named])
        return (
            f"its arguments and variables have {whole} bytes together, and Linux passes {total} at most to a"
            f" program here; the largest is {largest[1]} with {largest[0] - 1} bytes"
        )
    return None


_LIMIT: Final = f"Linux passes {MAX_ARGUMENT_BYTES - 1} at most to a program as one"
