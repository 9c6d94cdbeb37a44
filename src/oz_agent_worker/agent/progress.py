"""The agent's own words: single lines on stderr, so that stdout is the harness's alone."""

import contextlib
import sys
from collections.abc import Callable

__all__ = ["Say", "hiding", "plain", "say", "silent"]

#: Takes one line of progress, without its prefix.
Say = Callable[[str], None]


def say(line: str) -> None:
    """Print ``oz-agent: <line>`` on stderr. A reader that went away is no error."""
    with contextlib.suppress(OSError, ValueError):
        print(f"oz-agent: {line}", file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Say nothing."""


def hiding(secret: str, inner: Say) -> Say:
    """Return ``inner`` with ``***`` in the place of a secret; an empty one hides nothing."""
    return (lambda line: inner(line.replace(secret, "***"))) if secret else inner


def plain(text: str, limit: int = 300) -> str:
    """Return text from elsewhere fit for one line: no control characters, at most ``limit`` long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
