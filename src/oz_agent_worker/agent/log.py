"""The agent's own log lines: on stderr, so that stdout carries the harness's output only."""

import contextlib
import sys
from collections.abc import Callable

__all__ = ["Log", "log_nothing", "log_to_stderr", "redacted", "single_line"]

#: Takes one line, without its prefix.
Log = Callable[[str], None]


def log_to_stderr(line: str) -> None:
    """Print ``oz-agent: <line>`` on stderr. A closed stderr is no error."""
    with contextlib.suppress(OSError, ValueError):
        print(f"oz-agent: {line}", file=sys.stderr, flush=True)


def log_nothing(line: str) -> None:
    """Drop the line."""


def redacted(log: Log, secret: str) -> Log:
    """Return a log that writes ``***`` in the place of a secret; an empty secret replaces nothing."""
    return (lambda line: log(line.replace(secret, "***"))) if secret else log


def single_line(text: str, limit: int = 300) -> str:
    """Make foreign text fit for one line: no control characters, at most ``limit`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
