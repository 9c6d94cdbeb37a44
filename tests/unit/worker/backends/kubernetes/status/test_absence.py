"""Jobs without a Pod: when that is trouble, and how long it may last."""

import math
from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.outcome import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.absence import missing_pod
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts, Refusal
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, Trouble
from tests.unit.worker.backends.kubernetes.samples import pod

POLICY = ObservationPolicy(unschedulable_timeout=30.0, refusal_grace=10.0, stuck_timeout=600.0)
QUOTA = EventFacts(about="job-1", refusal=Refusal.QUOTA, refused=" (FailedCreate: exceeded quota: small)")
DENIED = EventFacts(about="job-1", refusal=Refusal.FINAL, refused=" (FailedCreate: violates PodSecurity)")
WEBHOOK = EventFacts(
    about="job-1", refusal=Refusal.PASSING, refused=" (FailedCreate: failed calling webhook)"
)


def seen(*conditions: str, **status: Any) -> JobView:
    """A Job that the Job controller has seen to."""
    told = [{"type": kind, "status": "True"} for kind in conditions]
    status = {"startTime": "2026-01-01T12:00:00Z", "conditions": told, **status}
    return msgspec.convert({"metadata": {"name": "j", "uid": "job-1"}, "status": status}, JobView)


def only(job: JobView, facts: EventFacts = NOT_READ, policy: ObservationPolicy = POLICY) -> Trouble:
    [trouble] = missing_pod(job, (), policy, facts)
    assert trouble.outcome.reason is FailureReason.POD_MISSING
    assert (trouble.key, trouble.about) == ("job-1/pod_missing", "job-1")
    return trouble


@pytest.mark.parametrize(
    ("facts", "grace", "words"),
    [
        (NOT_READ, 600.0, "The Job has no Pod after 600 s: its events tell more"),
        (QUOTA, 30.0, "no room for it in the namespace's quota (FailedCreate: exceeded quota: small). Raise"),
        (DENIED, 10.0, "the cluster does not admit it (FailedCreate: violates PodSecurity). Change"),
        (WEBHOOK, 600.0, "The Job has no Pod after 600 s (FailedCreate: failed calling webhook): its events"),
    ],
    ids=["no word", "quota", "denied", "webhook away"],
)
def test_a_job_without_a_pod(facts: EventFacts, grace: float, words: str) -> None:
    trouble = only(seen(), facts)
    assert trouble.grace == grace
    assert words in trouble.outcome.message


def test_room_in_a_quota_is_waited_for_as_long_as_a_node_is() -> None:
    patient = ObservationPolicy(unschedulable_timeout=0.0)
    assert only(seen(), QUOTA, patient).grace == math.inf


def test_between_two_attempts_there_is_no_pod_and_no_trouble_for_long() -> None:
    assert only(seen(failed=1)).grace == 1200.0
    assert only(seen(failed=1), DENIED).grace == 10.0


@pytest.mark.parametrize(
    ("job", "pods"),
    [
        (msgspec.convert({"metadata": {"name": "j"}}, JobView), ()),
        (seen(startTime=None), ()),
        (seen(active=1), ()),
        (seen("Suspended"), ()),
        (seen("FailureTarget"), ()),
        (seen("SuccessCriteriaMet"), ()),
        (seen("Complete"), ()),
        (seen(), (pod(phase="Pending"),)),
        (seen(failed=1), (pod(phase="Failed"), pod(phase="Running"))),
        (seen(), (pod(phase="Succeeded"),)),
        (seen(), (pod(phase="Failed"),)),
        (seen(failed=1), (pod(phase="Failed"), pod(phase="Failed"))),
    ],
    ids=[
        "no status",
        "not seen to",
        "has one that was not told",
        "suspended",
        "failing",
        "succeeding",
        "complete",
        "pending",
        "running again",
        "succeeded, not counted",
        "failed, not counted",
        "failed again, not counted",
    ],
)
def test_a_job_that_misses_nothing(job: JobView, pods: tuple[PodView, ...]) -> None:
    assert [*missing_pod(job, pods, POLICY)] == []
    assert [*missing_pod(job, pods, POLICY, DENIED)] == []


def test_a_pod_that_has_ended_is_none_any_more() -> None:
    assert [*missing_pod(seen(failed=1), (pod(phase="Failed"),), POLICY)] != []
