"""What became of each case, for the table at the end of the session."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.core.wire import TaskCompleted, TaskFailed

__all__ = ["Entry", "entry_of", "table"]

WIDTH: Final = 118
SUCCEEDED: Final = "succeeded"


@dataclass(frozen=True, slots=True)
class Entry:
    """A case by name, and how it was reported; ``seconds`` from the assignment to the report."""

    case: str
    reason: str
    message: str
    exit_code: int | None = None
    seconds: float | None = None


def entry_of(case: str, ending: TaskCompleted | TaskFailed, seconds: float) -> Entry:
    """Read a terminal report."""
    if isinstance(ending, TaskFailed):
        return Entry(
            case, ending.failure_reason or "no reason", ending.message, ending.exit_code or None, seconds
        )
    return Entry(case, (ending.task_state or SUCCEEDED).lower(), ending.message, None, seconds)


def table(entries: Sequence[Entry]) -> list[str]:
    """Write the entries as lines: case, time, reason and exit code; below them the message, line for line."""
    widest = max((len(entry.case) for entry in entries), default=0)
    lines: list[str] = []
    for entry in entries:
        time = "" if entry.seconds is None else f"{entry.seconds:.1f} s"
        code = "" if entry.exit_code is None else f" (exit code {entry.exit_code})"
        lines.append(f"{entry.case:{widest}}  {time:>7}  {entry.reason}{code}")
        for line in entry.message.splitlines():
            indent = " " * (4 + len(line) - len(line.lstrip()))
            lines += textwrap.wrap(
                line.strip(), WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )
    return lines
