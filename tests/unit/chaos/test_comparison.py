"""The comparison of the ledgers: what is as it should be, and each way in which it is not."""

from dataclasses import replace

import pytest

from tests.chaos.comparison import Comparison, RunView, Submission, compare
from tests.chaos.plan import End, TaskPlan
from tests.chaos.records import Record

PLAN = TaskPlan(number=1, end=End.SUCCESS, seconds=1.0)
DONE = RunView(run_id="r", title=PLAN.title, state="SUCCEEDED", exit_code=0)


def start(execution: str = "e", run_id: str = "r") -> Record:
    return Record(t=1.0, event="start", task_id=run_id, execution_id=execution, where="p")


def judged(
    plan: TaskPlan = PLAN,
    run: RunView | None = DONE,
    starts: tuple[Record, ...] = (start(),),
    *,
    cancelled: bool = False,
    backend: str = "kubernetes",
) -> Comparison:
    runs = [run] if run is not None else []
    return compare([Submission(plan, "r", cancelled=cancelled)], starts, runs, backend=backend)


def counts(comparison: Comparison) -> tuple[int, int, int, int]:
    return (
        len(comparison.lost), len(comparison.ran_twice), len(comparison.wrong_state), len(comparison.degraded)
    )  # fmt: skip


FINE = (0, 0, 0, 0)
LOST = (1, 0, 0, 0)
TWICE = (0, 1, 0, 0)
WRONG = (0, 0, 1, 0)
DEGRADED = (0, 0, 0, 1)


def test_a_task_that_ran_once_and_ended_as_planned_is_fine() -> None:
    assert counts(judged()) == FINE


@pytest.mark.parametrize(
    ("end", "state", "code", "exit_code"),
    [
        (End.EXIT, "FAILED", "container_exit", 5),
        (End.OOM, "FAILED", "container_oom", 137),
        (End.EVICTED, "ERROR", "evicted", 137),
        (End.IMAGE_PULL, "ERROR", "image_pull", None),
        (End.UNSCHEDULABLE, "ERROR", "unschedulable", None),
    ],
)
def test_each_planned_failure_has_its_state_and_reason(
    end: End, state: str, code: str, exit_code: int | None
) -> None:
    plan = replace(PLAN, end=end, exit_code=5 if end is End.EXIT else 0)
    run = replace(DONE, state=state, error_code=code, exit_code=exit_code)
    assert counts(judged(plan, run)) == FINE
    assert counts(judged(plan, replace(run, error_code="job_failed"))) == WRONG
    assert counts(judged(plan, DONE)) == WRONG


def test_an_exit_code_must_be_the_planned_one() -> None:
    plan = replace(PLAN, end=End.EXIT, exit_code=5)
    run = replace(DONE, state="FAILED", error_code="container_exit", exit_code=6)
    assert counts(judged(plan, run)) == WRONG


def test_a_run_that_is_unknown_or_goes_on_is_lost() -> None:
    assert counts(judged(run=None)) == LOST
    assert counts(judged(run=replace(DONE, state="CLAIMED"))) == LOST


def test_success_without_a_start_is_lost() -> None:
    assert counts(judged(starts=())) == LOST


def test_a_task_that_its_worker_lost_is_lost() -> None:
    assert counts(judged(run=replace(DONE, state="ERROR", error_code="worker_lost"))) == LOST


def test_a_failure_whose_record_was_deleted_may_be_reported_as_lost() -> None:
    run = replace(DONE, state="ERROR", error_code="worker_lost")
    for end in (End.IMAGE_PULL, End.UNSCHEDULABLE):
        assert counts(judged(replace(PLAN, end=end), run, ())) == DEGRADED
    assert counts(judged(replace(PLAN, end=End.EXIT), run)) == LOST


def test_a_direct_task_may_die_with_its_worker() -> None:
    run = replace(DONE, state="ERROR", error_code="worker_lost")
    assert counts(judged(run=run, backend="direct")) == DEGRADED


def test_a_cancellation_counts_where_it_was_asked_for() -> None:
    never = replace(PLAN, end=End.NEVER)
    run = replace(DONE, state="CANCELLED")
    assert counts(judged(never, run, cancelled=True)) == FINE
    assert counts(judged(PLAN, run, cancelled=True)) == FINE
    assert counts(judged(PLAN, run)) == WRONG
    assert counts(judged(PLAN, DONE, cancelled=True)) == FINE, "it may come too late"
    assert counts(judged(never, DONE, cancelled=True)) == WRONG


def test_two_starts_of_one_execution_are_one_too_many() -> None:
    assert counts(judged(starts=(start(), start()))) == TWICE
    assert counts(judged(replace(PLAN, safe_to_retry=True), starts=(start(), start()))) == TWICE


def test_two_executions_need_leave_to_retry() -> None:
    starts = (start("e"), start("f"))
    assert counts(judged(starts=starts)) == TWICE
    assert counts(judged(replace(PLAN, safe_to_retry=True), starts=starts)) == FINE


def test_ends_are_no_starts() -> None:
    ended = Record(t=2.0, event="end", task_id="r", execution_id="e")
    assert counts(judged(starts=(start(), ended))) == FINE


def test_a_run_without_a_submission_is_wrong() -> None:
    assert counts(judged(starts=(start(), start(run_id="stranger")))) == WRONG


def test_a_submission_that_is_stored_twice_would_run_twice() -> None:
    again = replace(DONE, run_id="s")
    comparison = compare([Submission(PLAN, "r")], [start()], [DONE, again], backend="kubernetes")
    assert len(comparison.ran_twice) == 2


def pod(name: str, t: float, owner: str = "job") -> Record:
    return Record(t=t, event="start", task_id="r", execution_id="e", where=name, owner=owner)


@pytest.mark.parametrize(
    ("second", "outages", "excused"),
    [
        (pod("p2", 12.0), [10.0], True),
        (pod("p2", 12.0), [], False),
        (pod("p2", 12.0), [13.0], False),
        (pod("p2", 60.0), [10.0], False),
        (pod("p2", 12.0, owner="another"), [10.0], False),
        (pod("p1", 12.0), [10.0], False),
        (pod("p2", 12.0, owner=""), [10.0], False),
    ],
)
def test_a_second_pod_of_one_job_after_an_outage_is_the_job_controllers(
    second: Record, outages: list[float], excused: bool
) -> None:
    starts = [pod("p1", 9.0, owner=second.owner and "job"), second]
    comparison = compare([Submission(PLAN, "r")], starts, [DONE], backend="kubernetes", outages=outages)
    assert (len(comparison.doubled), len(comparison.ran_twice)) == ((1, 0) if excused else (0, 1))


@pytest.mark.parametrize(
    ("code", "outages", "degraded"),
    [
        ("pod_replaced", [10.0], True),
        ("worker_lost", [10.0], True),
        ("pod_replaced", [], False),
        ("job_failed", [10.0], False),
    ],
)
def test_a_task_whose_pod_the_job_controller_doubled_may_fail_for_that(
    code: str, outages: list[float], degraded: bool
) -> None:
    run = replace(DONE, state="ERROR", error_code=code)
    starts = [pod("p1", 9.0), pod("p2", 12.0)]
    comparison = compare([Submission(PLAN, "r")], starts, [run], backend="kubernetes", outages=outages)
    assert len(comparison.degraded) == degraded
    assert len(comparison.wrong_state) + len(comparison.lost) == 1 - degraded
