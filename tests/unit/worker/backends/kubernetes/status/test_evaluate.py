"""Judgement over observed state: the end of a task, and how long a problem may last."""

import itertools
import math
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import Evaluation, Observation, evaluate
from oz_agent_worker.worker.backends.kubernetes.status.events import (
    NOT_READ,
    EventFacts,
    Refusal,
    ScaleUp,
    unreadable,
)
from oz_agent_worker.worker.backends.kubernetes.status.job_state import TaskStage
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.samples import failed_job, job, pod, running, terminated, waiting

POLICY = ObservationPolicy(unschedulable_timeout=30.0)
PULLING = pod(phase="Pending", containerStatuses=[waiting("task", "ErrImagePull", "i/o timeout")])
STUCK = pod(
    phase="Pending",
    spec={},
    conditions=[
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    ],
)


def evaluated(
    job_view: JobView | None, *pods: PodView, seen: dict[str, float] | None = None, now: float = 1000.0
) -> Evaluation:
    return evaluate(Observation(job_view, pods), seen or {}, now, POLICY)


@pytest.mark.parametrize(
    ("job_view", "pods", "stage"),
    [
        (None, (), "creating"),
        (job(), (), "pending"),
        (job(), (pod(phase="Pending"),), "pending"),
        (job(), (pod(),), "pending"),
        (job(), (pod(phase="Running", containerStatuses=[running("task")]),), "running"),
        (job({"type": "Complete", "status": "False"}), (), "pending"),
        # Announced, but not yet final (batch/v1, JobSuccessCriteriaMet and JobFailureTarget).
        (job({"type": "SuccessCriteriaMet", "status": "True"}), (pod(phase="Running"),), "running"),
        (job({"type": "FailureTarget", "status": "True"}), (pod(phase="Running"),), "running"),
    ],
)
def test_a_task_that_goes_its_way(job_view: JobView | None, pods: tuple[PodView, ...], stage: str) -> None:
    seen = evaluated(job_view, *pods)
    assert (seen.outcome, seen.stage) == (None, stage)
    # Time alone fails such a task only where nothing at all happens.
    assert seen.recheck_at is None or seen.recheck_at == 1000.0 + POLICY.stuck_timeout


def test_a_complete_job_succeeded() -> None:
    seen = evaluated(job({"type": "Complete", "status": "True"}), pod(phase="Succeeded"))
    assert seen.outcome is not None
    assert seen.outcome.result is TaskResult.SUCCEEDED
    assert (seen.stage, seen.recheck_at) == ("ended", None)


def test_a_failed_job_is_explained() -> None:
    seen = evaluated(failed_job(), pod(phase="Failed", containerStatuses=[terminated("task", 3)]))
    assert seen.outcome is not None
    assert (seen.outcome.reason, seen.outcome.exit_code) == (FailureReason.CONTAINER_EXIT, 3)
    assert seen.stage == "ended"


def test_the_end_of_the_job_counts_more_than_a_problem() -> None:
    seen = evaluated(
        job({"type": "Complete", "status": "True"}), PULLING, seen={"uid-1/task/image_pull": 0.0}
    )
    assert seen.outcome is not None
    assert seen.outcome.result is TaskResult.SUCCEEDED


def test_a_problem_has_its_grace_from_when_the_worker_first_saw_it() -> None:
    first = evaluated(job(), PULLING, now=1000.0)
    assert first == Evaluation(None, 1060.0, TaskStage.PENDING, frozenset({"uid-1/task/image_pull"}))
    seen = dict.fromkeys(first.problems, 1000.0)
    assert evaluated(job(), PULLING, seen=seen, now=1059.9) == first
    last = evaluated(job(), PULLING, seen=seen, now=1060.0)
    assert last.outcome is not None
    assert last.outcome.reason is FailureReason.IMAGE_PULL
    assert (last.recheck_at, last.problems) == (None, first.problems)


def test_a_problem_keeps_its_key_while_the_clusters_message_changes() -> None:
    back_off = pod(phase="Pending", containerStatuses=[waiting("task", "ImagePullBackOff", "Back-off")])
    assert evaluated(job(), back_off).problems == evaluated(job(), PULLING).problems


def test_the_soonest_of_several_problems_says_when_to_look_again() -> None:
    may_start_twice = job(retries=1)
    other = pod(
        phase="Running",
        metadata={"uid": "uid-2", "creationTimestamp": "2026-01-01T00:00:10Z"},
        containerStatuses=[waiting("helper", "CreateContainerError"), running("task")],
    )
    seen = evaluated(
        may_start_twice, PULLING, other, seen={"uid-2/helper/container_create": 980.0}, now=1000.0
    )
    assert (seen.outcome, seen.recheck_at, seen.stage) == (None, 1040.0, "running")
    assert len(seen.problems) == 2


def test_a_pod_without_a_node_fails_after_the_unschedulable_timeout() -> None:
    first = evaluated(job(), STUCK)
    assert first.recheck_at == 1030.0
    last = evaluated(job(), STUCK, seen=dict.fromkeys(first.problems, 970.0))
    assert last.outcome is not None
    assert last.outcome.reason is FailureReason.UNSCHEDULABLE


def test_an_unschedulable_timeout_of_zero_never_ends() -> None:
    patient = ObservationPolicy(unschedulable_timeout=0.0)
    assert evaluate(Observation(job(), (STUCK,)), {}, 1e9, patient) == Evaluation(
        None, None, TaskStage.PENDING
    )


@given(st.floats(min_value=-1e6, max_value=1e6))
def test_a_clock_that_jumps_never_fails_a_problem_before_its_grace(jump: float) -> None:
    now = 1000.0 + jump
    seen = evaluated(job(), PULLING, seen={"uid-1/task/image_pull": 1000.0}, now=now)
    assert (seen.outcome is not None) == (now >= 1060.0)


# What events change

FITS_NOWHERE = "uid-1/unschedulable"
COMING = EventFacts(about="uid-1", read_at=1005.0, scale_up=ScaleUp.COMING, autoscaler="TriggeredScaleUp")
REFUSED = EventFacts(about="uid-1", read_at=1005.0, scale_up=ScaleUp.REFUSED, autoscaler="no")


def with_events(
    facts: EventFacts | None,
    *,
    now: float,
    pods: tuple[PodView, ...] = (STUCK,),
    job_view: JobView | None = None,
) -> Evaluation:
    """Judge at ``now`` a problem that began at 1000."""
    observation = Observation(job_view or job(), pods, facts)
    keys = evaluate(observation, {}, 1000.0, POLICY).problems
    return evaluate(observation, dict.fromkeys(keys, 1000.0), now, POLICY)


def test_events_are_asked_for_only_once_a_problem_lasts() -> None:
    assert with_events(NOT_READ, now=1000.0) == Evaluation(
        None, 1010.0, TaskStage.PENDING, frozenset({FITS_NOWHERE})
    )
    seen = with_events(NOT_READ, now=1010.0)
    assert (seen.read_events_of, seen.recheck_at, seen.outcome) == ("uid-1", 1030.0, None)


def test_a_problem_that_its_own_message_explains_needs_no_events() -> None:
    seen = with_events(NOT_READ, now=1059.0, pods=(PULLING,))
    assert (seen.read_events_of, seen.recheck_at) == ("", 1060.0)


def test_events_read_before_a_grace_was_over_are_read_once_more() -> None:
    stale = replace(COMING, scale_up=ScaleUp.UNKNOWN, read_at=1029.9)
    seen = with_events(stale, now=1030.0)
    assert (seen.outcome, seen.read_events_of, seen.recheck_at) == (None, "uid-1", 1060.0)
    fresh = replace(stale, read_at=1030.0)
    assert with_events(fresh, now=1030.1).outcome is not None
    # An answer that does not come is waited for for so long and no longer.
    assert with_events(stale, now=1060.0).outcome is not None


def test_without_permission_to_read_events_nothing_waits_for_them() -> None:
    for facts in (None, unreadable("uid-1")):
        assert with_events(facts, now=1029.9).outcome is None
        assert with_events(facts, now=1030.0).outcome is not None


def test_a_node_that_is_coming_is_waited_for() -> None:
    assert with_events(COMING, now=1031.0).outcome is None
    late = with_events(replace(COMING, read_at=1600.0), now=1600.0)
    assert late.outcome is not None
    assert "TriggeredScaleUp" in late.outcome.message


def test_a_node_that_will_not_come_is_not_waited_for() -> None:
    seen = with_events(REFUSED, now=1005.1)
    assert seen.outcome is not None
    assert seen.outcome.reason is FailureReason.UNSCHEDULABLE


def test_events_about_another_object_are_ignored() -> None:
    assert with_events(replace(REFUSED, about="uid-0"), now=1005.1).outcome is None


def test_a_job_without_a_pod_is_asked_about_by_its_own_name() -> None:
    bare = msgspec.convert(
        {"metadata": {"name": "j", "uid": "job-1"}, "status": {"startTime": "2026-01-01T12:00:00Z"}}, JobView
    )
    seen = with_events(NOT_READ, now=1010.0, pods=(), job_view=bare)
    assert (seen.read_events_of, seen.stage) == ("job-1", "pending")
    denied = EventFacts(about="job-1", read_at=1010.0, refusal=Refusal.FINAL, refused="no")
    outcome = with_events(denied, now=1010.1, pods=(), job_view=bare).outcome
    assert outcome is not None
    assert outcome.reason is FailureReason.POD_MISSING


STARTING = pod(phase="Pending", containerStatuses=[waiting("task", "ContainerCreating")])
LOST = pod(phase="Running", metadata={"deletionTimestamp": "2026-01-01T12:00:00Z"})
FACTS = st.one_of(
    st.none(),
    st.builds(
        EventFacts,
        about=st.sampled_from(["", "uid-1", "uid-2"]),
        read_at=st.sampled_from([-math.inf, 1000.0, 1030.0, 1200.0, math.inf]),
        mount=st.sampled_from(["", "FailedMount"]),
        pulling=st.booleans(),
        scale_up=st.sampled_from(ScaleUp),
    ),
)
PODS = st.lists(st.sampled_from([PULLING, STUCK, STARTING, LOST]), max_size=3).map(tuple)


@given(
    pods=PODS,
    facts=FACTS,
    began=st.floats(min_value=900.0, max_value=1000.0),
    moments=st.lists(st.floats(min_value=1000.0, max_value=3000.0), min_size=2, max_size=6),
)
def test_time_alone_changes_an_evaluation_at_its_deadline_and_never_revokes_a_failure(
    pods: tuple[PodView, ...], facts: EventFacts | None, began: float, moments: list[float]
) -> None:
    observation = Observation(job(), pods, facts)
    keys = evaluate(observation, {}, began, POLICY).problems
    evaluations = [
        (now, evaluate(observation, dict.fromkeys(keys, began), now, POLICY)) for now in sorted(moments)
    ]
    for (_, earlier), (now, later) in itertools.pairwise(evaluations):
        if earlier.outcome is not None:
            assert later.outcome == earlier.outcome
        elif earlier.recheck_at is None or now < earlier.recheck_at:
            assert later == earlier
