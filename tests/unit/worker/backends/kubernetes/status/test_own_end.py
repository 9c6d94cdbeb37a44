"""Whether the task ended by itself: whole seconds, other clocks, deletions, deadlines and disruptions."""

from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView
from oz_agent_worker.worker.backends.kubernetes.status.own_end import own_end, task_end
from tests.unit.worker.backends.kubernetes.samples import pod, running, terminated, waiting

NOON = "2026-01-01T12:00:00Z"
DELETED = {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}  # asked at noon


def at(seconds: int) -> str:
    """So many seconds after noon."""
    return f"2026-01-01T12:00:{seconds:02}Z" if seconds >= 0 else f"2026-01-01T11:59:{60 + seconds:02}Z"


def ended(code: int, finished: int | None, *, phase: str = "Failed", **status: Any) -> PodView:
    time = at(finished) if finished is not None else None
    return pod(phase=phase, containerStatuses=[terminated("task", code, finishedAt=time)], **status)


def failed_at(seconds: int | None, reason: str = "BackoffLimitExceeded") -> Condition:
    time = at(seconds) if seconds is not None else None
    return Condition(type="Failed", status="True", reason=reason, last_transition_time=time)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], None),
        ([running("task")], None),
        ([waiting("task", "PodInitializing")], None),
        ([terminated("proxy", 1)], None),
        ([terminated("proxy", 1), terminated("task", 0)], 0),
        ([terminated("task", 137, reason="ContainerStatusUnknown")], None),
        ([terminated("task", 0, signal=9)], 137),
    ],
)
def test_the_end_of_the_container_task(statuses: list[dict[str, Any]], code: int | None) -> None:
    view = pod(phase="Running", containerStatuses=statuses)
    end = task_end(view)
    assert (end.code if end is not None else None) == code
    assert own_end(view) is end


@pytest.mark.parametrize(
    ("code", "finished", "own"),
    [
        (3, -1, True),
        (3, 0, True),  # in the second of the request
        (3, 1, False),
        (3, None, False),
        (143, 0, False),
        (137, -60, False),
        (137, 1, False),
        (0, -1, True),
        (0, 0, False),  # agents that listen to SIGTERM end within the second
        (0, 5, False),
        (0, None, False),
    ],
)
def test_k13_a_deletion_ends_what_ends_after_it(code: int, finished: int | None, own: bool) -> None:
    view = ended(code, finished, metadata=DELETED)
    assert (own_end(view) is not None) == own


@pytest.mark.parametrize(
    ("decided", "own"),
    [(-1, True), (0, False), (1, False), (None, False)],
    ids=["before", "same", "after", "?"],
)
def test_k13_a_deletion_after_the_end_of_the_job_has_ended_nothing(decided: int | None, own: bool) -> None:
    """With a TTL of 0 the Job is deleted in the second in which it ends, and its Pod with it."""
    for code, finished in ((137, 0), (3, 1)):
        view = ended(code, finished, metadata=DELETED)
        assert (own_end(view, failed_at(decided)) is not None) == own


def test_an_immediate_deletion_has_no_grace() -> None:
    assert own_end(ended(3, 1, metadata={"deletionTimestamp": NOON})) is None
    assert own_end(ended(3, 0, metadata={"deletionTimestamp": NOON})) is not None


TARGET = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}


@pytest.mark.parametrize(
    ("code", "finished", "more", "own"),
    [
        # K10: the task had ended when its Pod was drained, because a container beside it ran on.
        (0, -1, {}, True),
        (0, 0, {}, False),
        (0, 5, {"phase": "Succeeded"}, True),
        (0, 5, {}, False),
        (0, None, {}, False),
        # A failure, only where clocks cannot be why.
        (3, -1, {}, False),
        (143, 0, {}, False),
        (3, None, {}, False),
        (3, 5, {"phase": "Succeeded"}, False),
    ],
)
def test_what_ends_with_a_disruption_has_not_ended_by_itself(
    code: int, finished: int | None, more: dict[str, Any], own: bool
) -> None:
    target = TARGET | {"lastTransitionTime": NOON}
    assert (own_end(ended(code, finished, conditions=[target], **more)) is not None) == own


def test_a_failure_long_before_a_disruption_is_the_tasks_own() -> None:
    late = TARGET | {"lastTransitionTime": "2026-01-01T12:02:00Z"}
    assert own_end(ended(3, 59, conditions=[late])) is not None
    assert own_end(ended(3, 59, conditions=[TARGET | {"lastTransitionTime": "2026-01-01T12:01:59Z"}])) is None
    assert own_end(ended(3, 5, reason="Evicted")) is None
    assert own_end(ended(3, 5, conditions=[TARGET | {"status": "False"}])) is not None


@pytest.mark.parametrize(
    ("code", "finished", "decided", "own"),
    [(0, -1, 0, True), (0, 0, 0, False), (0, None, 0, False), (0, 0, None, False), (3, -1, 0, False)],
)
def test_what_ends_with_the_deadline_has_not_ended_by_itself(
    code: int, finished: int | None, decided: int | None, own: bool
) -> None:
    passed = failed_at(decided, "DeadlineExceeded")
    assert (own_end(ended(code, finished), passed) is not None) == own


def test_a_pod_past_its_own_deadline_does_not_say_when_that_was() -> None:
    assert own_end(ended(0, 0, reason="DeadlineExceeded"), failed_at(30)) is None
