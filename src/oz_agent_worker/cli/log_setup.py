"""Logging on stderr, one line per event: text for people, or JSON for log collectors.

A line about a task has the task, the execution and, if there are any, the Job and the trace
(``worker.log_fields``). Characters that would break a line or a terminal are escaped.
"""

import json
import logging
import os
import re
import sys
import time
from typing import Final, Literal, TypeAlias

import click

from oz_agent_worker.worker.log_fields import LogFields

from .output import colour_unwanted

__all__ = ["JsonFormatter", "LogFormat", "TextFormatter", "configure_logging"]

LogFormat: TypeAlias = Literal["text", "json"]

_LEVELS: Final = {
    "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR,
}  # fmt: skip
_COLOURS: Final = {
    logging.DEBUG: "bright_black", logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red",
}  # fmt: skip
_NAMES: Final = {logging.WARNING: "WARN"}
#: Control characters of ASCII and Latin-1, and Unicode's line breaks.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00Z INFO  text``; times are UTC (RFC 3339).

    Fields whose values are not in the text follow it as ``name=value``.
    """

    def __init__(self, fields: LogFields, *, colour: bool) -> None:
        super().__init__("%(message)s")
        self._fields = fields
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        level = _NAMES.get(record.levelno, record.levelname)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        message = super().format(record)
        fields = self._fields.of(record).items()
        missing = "".join(f" {name}={value}" for name, value in fields if value not in message)
        line = f"{stamp} {level:<5} {_one_line(message)}{_one_line(missing)}"
        return click.style(line, fg=_COLOURS.get(record.levelno)) if self._colour else line


class JsonFormatter(logging.Formatter):
    """One object per line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``.

    If there is one: ``task``, ``execution``, ``job``, ``trace_id`` and, with a traceback, ``error``.
    """

    def __init__(self, fields: LogFields) -> None:
        super().__init__("%(message)s")
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": _NAMES.get(record.levelno, record.levelname).lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields.of(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # json.dumps writes ASCII alone, in which nothing but \n ends a line.
        return json.dumps(line)


def configure_logging(level: str, log_format: LogFormat = "text", fields: LogFields | None = None) -> None:
    """Send this package's log to stderr, and warnings of other libraries."""
    handler = logging.StreamHandler(sys.stderr)
    fields = fields or LogFields()
    if log_format == "json":
        handler.setFormatter(JsonFormatter(fields))
    else:
        colour = sys.stderr.isatty() and not colour_unwanted(os.environ)
        handler.setFormatter(TextFormatter(fields, colour=colour))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("oz_agent_worker").setLevel(_LEVELS[level])


def _one_line(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
