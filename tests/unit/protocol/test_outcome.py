import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import (
    MAX_MESSAGE,
    FailurePhase,
    Outcome,
    TaskResult,
    cancelled,
    describe_exit_code,
    failed,
    succeeded,
)
from oz_agent_worker.protocol.task_text import TaskText


def test_success() -> None:
    assert succeeded() == Outcome(TaskResult.SUCCEEDED, "Task completed successfully", None, None)


def test_cancellation() -> None:
    assert cancelled() == Outcome(TaskResult.CANCELLED, "Task was cancelled", None, None)


def test_failure() -> None:
    assert failed(FailureReason.CONTAINER_OOM, "no memory", exit_code=137) == Outcome(
        TaskResult.FAILED, "no memory", FailureReason.CONTAINER_OOM, 137, FailurePhase.BACKEND
    )


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (MAX_MESSAGE, "x" * MAX_MESSAGE),
        (MAX_MESSAGE + 1, "x" * (MAX_MESSAGE - 1) + "…"),
        (100 * MAX_MESSAGE, "x" * (MAX_MESSAGE - 1) + "…"),
    ],
)
def test_a_long_message_is_cut(length: int, expected: str) -> None:
    assert failed(FailureReason.UNKNOWN, "x" * length).message == expected


def test_the_owner_of_a_task_reads_its_text_too() -> None:
    outcome = failed(FailureReason.SETUP_COMMAND, "It failed: mend it", task_text=TaskText("no such host"))
    assert outcome.message == "It failed: mend it"
    assert outcome.for_owner() == "It failed: mend it; in its own words: no such host"


def test_without_task_text_the_owner_reads_the_message() -> None:
    assert failed(FailureReason.UNKNOWN, "It failed").for_owner() == "It failed"
    assert succeeded().for_owner() == "Task completed successfully"


def test_what_the_owner_reads_is_cut_too() -> None:
    whole = failed(FailureReason.UNKNOWN, "x" * MAX_MESSAGE, task_text=TaskText("why")).for_owner()
    assert whole == "x" * (MAX_MESSAGE - 1) + "…"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (128, "exit code 128"),
        (130, "exit code 130 (SIGINT)"),
        (137, "exit code 137 (SIGKILL)"),
        (143, "exit code 143 (SIGTERM)"),
        (255, "exit code 255"),  # 127 is no signal's number
        (-1, "exit code -1"),
    ],
)
def test_exit_codes_for_people(code: int, text: str) -> None:
    assert describe_exit_code(code) == text
