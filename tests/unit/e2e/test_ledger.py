"""The table that `make e2e` ends with."""

from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed
from tests.e2e.ledger import Ledger, table


def test_each_case_has_time_reason_exit_code_and_message() -> None:
    ledger = Ledger()
    ledger.report("good", TaskCompleted(task_id="t", message="Done"), 1.25)
    failed = TaskFailed(task_id="t", message="It ended", failure_reason="container_exit", exit_code=3)
    ledger.report("very bad", failed, 12.0)
    ledger.note("a start", "exit code 3", "error: no\n  to mend it: yes")
    assert table(ledger.entries) == [
        "good        1.2 s  succeeded",
        "    Done",
        "very bad   12.0 s  container_exit (exit code 3)",
        "    It ended",
        "a start            exit code 3",
        "    error: no",
        "      to mend it: yes",
    ]


def test_a_cancellation_is_recorded_as_such() -> None:
    ledger = Ledger()
    ledger.report("c", TaskCompleted(task_id="t", message="m", task_state="CANCELLED"), 1.0)
    assert ledger.entries[0].result == "cancelled"


def test_no_cases_give_no_lines() -> None:
    assert table([]) == []
