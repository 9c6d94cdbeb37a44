"""The lines of the log: one an event, with the task's fields, whatever a value holds."""

import json
import logging
import sys
from typing import Any

import pytest

from oz_agent_worker.cli.log_setup import JsonFormatter, TextFormatter
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import EventKind, TaskEvent
from oz_agent_worker.worker.log_fields import LogFields

KEY = ExecutionKey("t1", "e1")


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    exc_info = sys.exc_info() if error else None
    line = logging.LogRecord("oz_agent_worker.x", logging.WARNING, "x.py", 1, message, arguments, exc_info)
    line.created, line.msecs = 1769860800.25, 250.0
    return line


@pytest.fixture
def fields() -> LogFields:
    fields = LogFields()
    fields(TaskEvent(EventKind.JOB_NAMED, KEY, "oz-1"))
    fields(TaskEvent(EventKind.TRACE_BEGAN, KEY, "0af7651916cd43dd8448eb211c80319c"))
    return fields


def as_json(line: logging.LogRecord, fields: LogFields) -> dict[str, Any]:
    text = JsonFormatter(fields).format(line)
    assert len(text.splitlines()) == 1
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_text_names_what_the_message_does_not(fields: LogFields) -> None:
    line = TextFormatter(fields, colour=False).format(record("Task %s assigned", KEY))
    assert line == (
        "2026-01-31T12:00:00Z WARN  Task t1/e1 assigned job=oz-1 trace_id=0af7651916cd43dd8448eb211c80319c"
    )
    plain = TextFormatter(LogFields(), colour=False)
    assert plain.format(record("Task %s assigned", KEY)).endswith("WARN  Task t1/e1 assigned")


def test_json_has_every_field(fields: LogFields) -> None:
    assert as_json(record("Task %s assigned", KEY), fields) == {
        "time": "2026-01-31T12:00:00.250Z",
        "level": "warn",
        "logger": "oz_agent_worker.x",
        "message": "Task t1/e1 assigned",
        "task": "t1",
        "execution": "e1",
        "job": "oz-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


@pytest.mark.parametrize("hostile", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b", "a\x00b"])
def test_a_value_makes_no_line_of_its_own(hostile: str) -> None:
    text = TextFormatter(LogFields(), colour=False).format(record("said %s", hostile))
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    assert "\\" in text
    assert as_json(record("said %s", hostile), LogFields())["message"] == f"said {hostile}"


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        line = record("it failed", error=True)
    text = TextFormatter(LogFields(), colour=False).format(line)
    assert len(text.splitlines()) == 1
    assert "it failed\\nTraceback" in text
    parsed = as_json(line, LogFields())
    assert parsed["message"] == "it failed"
    assert parsed["error"].endswith("ValueError: bad\nvalue")
