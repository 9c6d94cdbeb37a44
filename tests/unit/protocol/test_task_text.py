"""A task's own text, and every way in which it might be printed by accident."""

import json
import logging

import msgspec
import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.events import EventKind, TaskEvent

CANARY = "ghs_canary"
WORDS = TaskText(f"fatal: unable to access 'https://x:{CANARY}@git.test'")
OUTCOME = failed(FailureReason.SETUP_COMMAND, "Container `setup` ended with exit code 128", task_text=WORDS)
KEY = ExecutionKey("run", "exec")


def test_they_say_that_they_are_not_shown() -> None:
    assert [str(WORDS), repr(WORDS), f"{WORDS}", f"{WORDS!r}"] == [TaskText.placeholder] * 4
    assert f"{WORDS:>30}" == f"{TaskText.placeholder:>30}"
    assert WORDS.reveal().endswith("@git.test'")


@pytest.mark.parametrize(
    "holder",
    [
        WORDS,
        OUTCOME,
        TerminalReport(KEY, OUTCOME),
        TaskEvent(EventKind.ENDED, KEY, outcome=OUTCOME),
        [OUTCOME],
        OUTCOME.message,
    ],
    ids=["words", "outcome", "report", "notice", "list", "message"],
)
def test_no_log_line_shows_them_whatever_it_prints(holder: object) -> None:
    error = ValueError(f"{holder} {holder!r}")
    record = logging.LogRecord(
        "x", logging.ERROR, "x.py", 1, "%s %r", (holder, holder), (ValueError, error, None)
    )
    line = logging.Formatter().format(record)
    assert "ValueError" in line
    assert CANARY not in line


def test_equal_texts_are_equal() -> None:
    assert TaskText("a") == TaskText("a") != TaskText("b")


def test_no_serializer_knows_them() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(OUTCOME)
    with pytest.raises(TypeError):
        json.dumps(WORDS)
