"""What a harness is: a pure function from a run to the process that carries it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oz_agent_worker.agent.mcp import McpServer

__all__ = ["PROMPT_FILE", "Harness", "HarnessInput", "Invocation", "encode"]

#: The file in ``HarnessInput.scratch`` that holds the prompt, for harnesses that read one.
PROMPT_FILE: Final = "prompt"


@dataclass(frozen=True, kw_only=True)
class HarnessInput:
    """One run, as a harness sees it.

    ``scratch`` is a private directory that exists as long as the harness runs. ``template`` is the
    operator's ``OZ_AGENT_COMMAND``.
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

    ``environment`` holds defaults: a variable that the task already has keeps its value. ``stdin`` is all
    that the process reads from its standard input. ``files`` are written to the scratch directory, by name.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes = field(default=b"", repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Harness:
    """A harness by its name on the wire; ``about`` is its line in the help and the docs.

    ``prepare`` raises AgentUsageError where this harness cannot carry the run out. ``install_hint`` says
    how to get the program. ``natural_language`` is False where the prompt is code, so that the agent puts no
    base prompt before it.
    """

    name: str
    about: str
    prepare: Callable[[HarnessInput], Invocation]
    install_hint: str
    natural_language: bool = True
    takes_mcp: bool = True


def encode(text: str) -> bytes:
    """Return the text as UTF-8; what UTF-8 cannot encode (lone surrogates in JSON) becomes ``?``."""
    return text.encode("utf-8", "replace")
