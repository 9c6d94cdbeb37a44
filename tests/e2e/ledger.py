"""What became of each case, for the table at the end of the session."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed

__all__ = ["Entry", "Ledger", "entry_of", "table"]

WIDTH: Final = 118


@dataclass(frozen=True, slots=True)
class Entry:
    """A case by name, and how it ended; ``seconds`` from its begin to its end."""

    case: str
    result: str
    message: str
    exit_code: int | None = None
    seconds: float | None = None


class Ledger:
    """The entries of one session, in the order of the tests."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def report(self, case: str, ending: TaskCompleted | TaskFailed, seconds: float) -> None:
        """Note what the worker reported of a task."""
        self.entries.append(entry_of(case, ending, seconds))

    def note(self, case: str, result: str, message: str = "", seconds: float | None = None) -> None:
        """Note what is no report of a task."""
        self.entries.append(Entry(case, result, message, None, seconds))


def entry_of(case: str, ending: TaskCompleted | TaskFailed, seconds: float) -> Entry:
    """Read a terminal report."""
    if isinstance(ending, TaskCompleted):
        return Entry(case, (ending.task_state or "succeeded").lower(), ending.message, None, seconds)
    reason = ending.failure_reason or "no reason"
    return Entry(case, reason, ending.message, ending.exit_code or None, seconds)


def table(entries: Sequence[Entry]) -> list[str]:
    """Write the entries as lines: case, time, result, exit code; below them the message, line for line."""
    widest = max((len(entry.case) for entry in entries), default=0)
    lines: list[str] = []
    for entry in entries:
        time = "" if entry.seconds is None else f"{entry.seconds:.1f} s"
        code = "" if entry.exit_code is None else f" (exit code {entry.exit_code})"
        lines.append(f"{entry.case:{widest}}  {time:>7}  {entry.result}{code}")
        for line in entry.message.splitlines():
            indent = " " * (4 + len(line) - len(line.lstrip()))
            lines += textwrap.wrap(
                line.strip(), WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )
    return lines
