"""The harnesses by name. To add one: a module with a ``HARNESS``, and its name below."""

from types import MappingProxyType
from typing import Final

from oz_agent_worker.agent.errors import UsageError

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
#: The public service's name for its own agent, which has no counterpart here.
BUILT_IN: Final = "oz"


def choose_harness(asked: str | None, of_run: str, default: str) -> Harness:
    """Choose by the command line, else by the run, else (absent or ``oz``) the default, else ``shell``.

    Raises:
        UsageError: no harness of that name; the text names those that there are.
    """
    name = (asked or of_run).strip().lower()
    if name in ("", BUILT_IN):
        name = default.strip().lower()
    if name in ("", BUILT_IN):
        name = shell.HARNESS.name
    if name not in HARNESSES:
        raise UsageError(f"unknown harness {name[:40]!r}; there are: {', '.join(HARNESSES)}")
    return HARNESSES[name]
