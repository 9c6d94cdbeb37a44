"""The registry of harnesses. To add one: a module with a ``HARNESS``, and its entry below."""

from types import MappingProxyType
from typing import Final

from oz_agent_worker.agent.errors import AgentUsageError

from . import claude, codex, command, gemini, opencode, shell
from .base import Harness

__all__ = ["BUILT_IN", "HARNESSES", "choose_harness"]

_ALL: Final[tuple[Harness, ...]] = (
    shell.HARNESS,
    claude.HARNESS,
    codex.HARNESS,
    gemini.HARNESS,
    opencode.HARNESS,
    command.HARNESS,
)
HARNESSES: Final = MappingProxyType({harness.name: harness for harness in _ALL})
#: The public service's name for its own agent, which this runtime does not have.
BUILT_IN: Final = "oz"


def choose_harness(asked: str, of_run: str, default: str) -> Harness:
    """Choose a harness: of the command line, else of the run, else the default, else ``shell``.

    A blank name and ``oz`` count as no choice.

    Raises:
        AgentUsageError: no harness has that name; the text lists the names.
    """
    names = [name.strip().lower() for name in (asked or of_run, default)]
    name = next((name for name in names if name not in ("", BUILT_IN)), shell.HARNESS.name)
    if name not in HARNESSES:
        raise AgentUsageError(f"unknown harness {name[:40]!r}; there are: {', '.join(HARNESSES)}")
    return HARNESSES[name]
