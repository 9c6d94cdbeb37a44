"""What events amount to: the newest answer to each question, whatever order they come in."""

import itertools
import math
from typing import Any

import pytest

from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.status.events import (
    EventFacts,
    Refusal,
    ScaleUp,
    event_facts,
    unreadable,
    with_scale_up,
)
from tests.unit.worker.backends.kubernetes.samples import event

TRIGGERED = "pod triggered scale-up: [{workers 1->2 (max: 5)}]"
NOT_TRIGGERED = "pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu, 1 max node group size reached"
BACKOFF = "pod didn't trigger scale-up: 1 in backoff after failed scale-up"
NOMINATED = "Pod should schedule on: nodeclaim/default-x7k2p"
MISSING_SECRET = 'MountVolume.SetUp failed for volume "key" : secret "key" not found'


def facts(*events: EventView) -> EventFacts:
    return event_facts("uid-1", events, 1000.0)


def autoscaler(reason: str, message: str, at: int) -> EventView:
    return event(reason, message, at=at, kind="Normal", source={"component": "cluster-autoscaler"})


def test_no_events_say_nothing() -> None:
    assert facts() == EventFacts(about="uid-1", read_at=1000.0)


@pytest.mark.parametrize(
    ("events", "mount"),
    [
        ([event("FailedMount", MISSING_SECRET, at=5)], f"FailedMount: {MISSING_SECRET}"),
        ([event("FailedAttachVolume", "in use", at=5)], "FailedAttachVolume: in use"),
        ([event("FailedMapVolume", "no path", at=5)], "FailedMapVolume: no path"),
        ([event("FailedMount", "one", at=5), event("FailedMount", "two", at=7)], "FailedMount: two"),
        ([event("FailedMount", "one", at=5), event("Pulling", at=5)], ""),
        ([event("FailedMount", "one", at=5), event("Pulled", at=9)], ""),
        ([event("FailedMount", "one", at=5), event("FailedCreatePodSandBox", "no IP", at=9)], ""),
        ([event("Scheduled", at=1), event("FailedScheduling", "0/1", at=2)], ""),
    ],
)
def test_a_mount_that_fails(events: list[EventView], mount: str) -> None:
    assert facts(*events).mount == mount


@pytest.mark.parametrize("reason", ["Unhealthy", "ProbeWarning", "FailedPostStartHook", "FailedPreStopHook"])
def test_program_output_is_not_the_clusters_message(reason: str) -> None:
    found = facts(event("FailedMount", "one", at=5), event(reason, "probe failed:\n canary", at=9))
    assert (found.warning, found.task_text) == (f"{reason}", TaskText("probe failed: canary"))


def test_the_clusters_own_warning() -> None:
    found = facts(event("Unhealthy", "canary", at=5), event("FailedCreatePodSandBox", "no IP", at=9))
    assert (found.warning, found.task_text) == ("FailedCreatePodSandBox: no IP", None)


@pytest.mark.parametrize(
    ("events", "pulling"),
    [
        ([event("Pulling", at=1)], True),
        ([event("Pulling", at=1), event("Pulled", at=60)], False),
        (
            [event("Pulled", at=1), event("Created", at=1), event("Started", at=1), event("Pulling", at=1)],
            True,
        ),
        ([event("Pulling", at=1), event("Failed", at=2)], False),
        ([event("Scheduled", at=1)], False),
    ],
)
def test_an_image_that_is_being_pulled(events: list[EventView], pulling: bool) -> None:
    assert facts(*events).pulling is pulling


@pytest.mark.parametrize(
    ("events", "scale_up", "quoted"),
    [
        ([autoscaler("TriggeredScaleUp", TRIGGERED, 5)], ScaleUp.COMING, TRIGGERED),
        ([autoscaler("NotTriggerScaleUp", NOT_TRIGGERED, 5)], ScaleUp.REFUSED, NOT_TRIGGERED),
        ([event("Nominated", NOMINATED, at=5, reportingComponent="karpenter")], ScaleUp.COMING, NOMINATED),
        (
            [autoscaler("NotTriggerScaleUp", NOT_TRIGGERED, 5), autoscaler("TriggeredScaleUp", TRIGGERED, 9)],
            ScaleUp.COMING,
            TRIGGERED,
        ),
        (
            [autoscaler("TriggeredScaleUp", TRIGGERED, 5), autoscaler("NotTriggerScaleUp", NOT_TRIGGERED, 9)],
            ScaleUp.REFUSED,
            NOT_TRIGGERED,
        ),
        # Such a node group is tried again: the earlier message still counts.
        ([autoscaler("NotTriggerScaleUp", BACKOFF, 9)], ScaleUp.UNKNOWN, BACKOFF),
        (
            [autoscaler("TriggeredScaleUp", TRIGGERED, 5), autoscaler("NotTriggerScaleUp", BACKOFF, 9)],
            ScaleUp.COMING,
            TRIGGERED,
        ),
        # Karpenter's word for what it cannot do now is the scheduler's: it may do it later.
        (
            [event("FailedScheduling", "no instance type fits", at=5, reportingComponent="karpenter")],
            ScaleUp.UNKNOWN,
            "no instance type fits",
        ),
    ],
)
def test_the_autoscalers_newest_decision_counts(
    events: list[EventView], scale_up: ScaleUp, quoted: str
) -> None:
    for order in itertools.permutations(events):
        facts_found = facts(*order)
        assert facts_found.scale_up is scale_up
        assert quoted in facts_found.autoscaler


def test_the_schedulers_events_are_not_the_autoscalers() -> None:
    facts_found = facts(event("FailedScheduling", "0/3 nodes", reportingComponent="default-scheduler"))
    assert (facts_found.scale_up, facts_found.autoscaler) == (ScaleUp.UNKNOWN, "")


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ('pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1', Refusal.QUOTA),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', Refusal.FINAL),
        ('admission webhook "policy.example" denied the request: no', Refusal.FINAL),
        ('pods "x" is forbidden: error looking up service account a/b', Refusal.FINAL),
        ('Internal error occurred: failed calling webhook "w": connect: connection refused', Refusal.PASSING),
        ('Post "https://10.0.0.1:443/api/v1/namespaces/agents/pods": unexpected EOF', Refusal.PASSING),
    ],
)
def test_why_no_pod_is_created(message: str, refusal: Refusal) -> None:
    facts_found = facts(event("FailedCreate", f"Error creating: {message}"))
    assert facts_found.refusal is refusal
    assert facts_found.refused == f"FailedCreate: {message}"


def test_a_refusal_is_over_when_a_pod_was_created() -> None:
    refused = event("FailedCreate", 'Error creating: pods "x" is forbidden: no', at=5)
    created = event("SuccessfulCreate", "Created pod: x", at=6, kind="Normal")
    assert facts(refused).refusal is Refusal.FINAL
    assert facts(created, refused).refusal is None
    assert facts(created, refused).refused == ""


def test_the_newest_warning_is_kept_whatever_it_is_about() -> None:
    facts_found = facts(
        event("FailedCreatePodSandBox", "no free IP", at=9),
        event("FailedMount", "earlier", at=2),
        event("Pulling", at=20, kind="Normal"),
    )
    assert facts_found.warning == "FailedCreatePodSandBox: no free IP"


@pytest.mark.parametrize(
    "later",
    [
        {"lastTimestamp": "2026-01-01T12:00:09Z"},
        {"lastTimestamp": None, "eventTime": "2026-01-01T12:00:09.000001Z"},
        {"lastTimestamp": None, "metadata": {"creationTimestamp": "2026-01-01T12:00:09Z"}},
        {
            "lastTimestamp": None,
            "eventTime": "2026-01-01T12:00:01.000001Z",
            "series": {"count": 3, "lastObservedTime": "2026-01-01T12:00:09.123456Z"},
        },
    ],
    ids=["core/v1", "events.k8s.io", "no time at all", "a series"],
)
def test_each_way_to_write_a_time_is_read(later: dict[str, Any]) -> None:
    newer = event("TriggeredScaleUp", TRIGGERED, **later)
    assert facts(newer, autoscaler("NotTriggerScaleUp", NOT_TRIGGERED, 5)).scale_up is ScaleUp.COMING


def test_an_event_without_a_time_is_the_oldest() -> None:
    bare = event("NotTriggerScaleUp", NOT_TRIGGERED, lastTimestamp=None)
    assert facts(autoscaler("TriggeredScaleUp", TRIGGERED, 0), bare).scale_up is ScaleUp.COMING


def test_what_may_not_be_read_is_never_out_of_date() -> None:
    facts_found = unreadable("uid-1")
    assert (facts_found.about, facts_found.read_at) == ("uid-1", math.inf)


def test_a_node_for_another_pod_counts_without_an_autoscaler_event() -> None:
    assert with_scale_up(facts(), "words").scale_up is ScaleUp.COMING
    refused = facts(autoscaler("NotTriggerScaleUp", NOT_TRIGGERED, 5))
    assert with_scale_up(refused, "words") == refused
    waits = facts(autoscaler("NotTriggerScaleUp", BACKOFF, 5))
    assert with_scale_up(waits, "words") == waits
