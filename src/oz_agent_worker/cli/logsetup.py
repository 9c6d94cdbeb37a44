"""Logging for people: one line an event, on stderr, coloured on a terminal alone."""

import logging
import os
import sys
import time
from typing import Final

import click

from .output import colour_unwanted

__all__ = ["configure_logging"]

_LEVELS: Final = {
    "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR,
}  # fmt: skip
_COLOURS: Final = {
    logging.DEBUG: "bright_black", logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red",
}  # fmt: skip
_NAMES: Final = {logging.WARNING: "WARN"}


class _LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00Z INFO  text``; times are UTC (RFC 3339)."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(message)s")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelno, record.levelname)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        # One line an event, whatever a text holds; a traceback keeps its lines.
        message, newline, trace = super().format(record).partition("\nTraceback ")
        line = f"{stamp} {level:<5} {message.replace(chr(10), ' ')}{newline}{trace}"
        return click.style(line, fg=_COLOURS.get(record.levelno)) if self._colour else line


def configure_logging(level: str) -> None:
    """Send this package's log to stderr; of other libraries only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(colour=sys.stderr.isatty() and not colour_unwanted(os.environ)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("oz_agent_worker").setLevel(_LEVELS[level])
