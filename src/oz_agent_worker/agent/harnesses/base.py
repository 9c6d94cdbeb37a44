"""What a harness is: a pure function from a run to the process that carries it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oz_agent_worker.agent.mcp import McpServer

__all__ = ["MAX_ARGUMENT_BYTES", "PROMPT_FILE", "Harness", "Invocation", "Task", "encode"]

#: Linux takes no argument or variable of this many bytes or more (MAX_ARG_STRLEN, its
#: final zero included), whatever the limit of all of them together.
MAX_ARGUMENT_BYTES: Final = 128 * 1024
#: The file in ``Task.scratch`` that holds the prompt, for harnesses that ask for one.
PROMPT_FILE: Final = "prompt"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run, as a harness sees it.

    ``scratch`` is a private directory that lives as long as the harness does.
    ``template`` is the operator's ``OZ_AGENT_COMMAND``.
    """

    run_id: str
    title: str
    prompt: str
    scratch: Path
    model: str = ""
    mcp_servers: tuple[McpServer, ...] = ()
    sandboxed: bool = False
    template: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The process to start.

    ``environment`` holds defaults: a variable that the task has already keeps its
    value. ``stdin`` is all that the process can read from its standard input.
    ``files`` go into the task's scratch directory, by name.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes = field(default=b"", repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Harness:
    """A harness by its name on the wire.

    ``prepare`` raises UsageError where the task cannot be put to this harness.
    ``get`` tells how to get the program. ``speaks`` is False where the prompt is no
    natural language, so that nothing is put before it.
    """

    name: str
    prepare: Callable[[Task], Invocation]
    get: str
    speaks: bool = True
    takes_mcp: bool = True


def encode(text: str) -> bytes:
    """Return the text as UTF-8; what UTF-8 cannot hold (lone surrogates in JSON) becomes ``?``."""
    return text.encode("utf-8", "replace")
