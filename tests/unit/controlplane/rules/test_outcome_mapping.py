import pytest

from oz_agent_worker.controlplane.rules.outcome_mapping import outcome_of
from oz_agent_worker.controlplane.rules.run_states import RunOutcome, RunState
from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed


def failed(reason: str | None = None, exit_code: int = 0, state: str | None = None) -> TaskFailed:
    return TaskFailed(
        task_id="r", message="why", failure_reason=reason, exit_code=exit_code, task_state=state
    )


def test_success() -> None:
    report = TaskCompleted(task_id="r", message="done")
    assert outcome_of(report) == RunOutcome(state=RunState.SUCCEEDED, message="done", exit_code=0)


@pytest.mark.parametrize(
    "report",
    [
        TaskCompleted(task_id="r", message="why", task_state="CANCELLED"),
        failed("container_exit", 143, "CANCELLED"),
    ],
)
def test_a_workers_report_of_a_cancellation_is_a_cancellation(report: TaskCompleted | TaskFailed) -> None:
    assert outcome_of(report) == RunOutcome(state=RunState.CANCELLED, message="why")


def test_cancelled_by_reason() -> None:
    assert outcome_of(failed("task_cancelled", 137)).state is RunState.CANCELLED


@pytest.mark.parametrize("reason", ["container_exit", "container_oom", "setup_command", "active_deadline"])
def test_the_agents_failures(reason: str) -> None:
    ending = outcome_of(failed(reason, 2))
    assert (ending.state, ending.error_code, ending.retryable, ending.exit_code) == (
        RunState.FAILED,
        reason,
        False,
        2,
    )


@pytest.mark.parametrize(
    "reason", ["image_pull", "evicted", "graceful_shutdown", "job_create", "unschedulable"]
)
def test_the_infrastructures_failures(reason: str) -> None:
    ending = outcome_of(failed(reason))
    assert (ending.state, ending.error_code, ending.retryable) == (RunState.ERROR, reason, True)


def test_an_invalid_image_stays_invalid() -> None:
    assert outcome_of(failed("invalid_image")).retryable is False


@pytest.mark.parametrize("reason", [None, "", "unknown"])
def test_an_exit_code_without_a_reason_is_the_agents(reason: str | None) -> None:
    assert outcome_of(failed(reason, 1)).state is RunState.FAILED
    assert outcome_of(failed(reason, 0)).state is RunState.ERROR


def test_a_reason_of_a_later_worker_is_the_infrastructures() -> None:
    assert outcome_of(failed("meteor", 1)).state is RunState.ERROR


def test_what_a_worker_sends_is_made_fit_for_the_database() -> None:
    ending = outcome_of(
        TaskFailed(task_id="r", message="\0" + "m" * 10_000, failure_reason="x" * 99, exit_code=2**40)
    )
    assert (len(ending.message), ending.message[0]) == (4000, "\N{REPLACEMENT CHARACTER}")
    assert (len(ending.error_code or ""), ending.exit_code) == (64, None)
