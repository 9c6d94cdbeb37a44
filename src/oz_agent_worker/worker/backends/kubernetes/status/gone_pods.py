"""Why a Job failed whose Pods are gone, from the events that outlive them. Pure.

A preempted or evicted Pod is deleted, and with it the condition that says so; its events stay
for an hour (kube-apiserver, ``--event-ttl``). That a Pod was evicted through the API, as
``kubectl drain`` does it, leaves no event of its own.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from oz_agent_worker.protocol.outcome import FailureReason, Outcome
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, EventView, PodView

from .disruptions import TELLING_EVENTS, disruption_from_events
from .events import last_seen
from .failure import explain_failure

__all__ = [
    "TELLING_EVENTS",
    "events_of_last_pod",
    "explain_end",
    "gone_pods",
    "is_unexplained",
    "pods_of_job",
]

#: The most Pods of a Job that are looked for although they are gone, the newest of them.
_MOST_GONE: Final = 10

# Job controller: the event of a Pod that it has created.
_CREATED: Final = re.compile(r"Created pod: (\S+)")


def pods_of_job(events: Iterable[EventView]) -> list[str]:
    """The names of the Pods that a Job has had, the oldest first, from the events about it."""
    ordered = sorted((e for e in events if e.reason == "SuccessfulCreate"), key=last_seen)
    found = (_CREATED.search(event.message or "") for event in ordered)
    return [match[1] for match in found if match]


def gone_pods(of_job: Iterable[EventView], standing: Iterable[str]) -> list[str]:
    """The names of a Job's Pods that do not stand any more, by the events about the Job: the newest."""
    there = set(standing)
    return [name for name in pods_of_job(of_job) if name not in there][-_MOST_GONE:]


def events_of_last_pod(events: Iterable[EventView]) -> list[EventView]:
    """Those of the ``events`` about a Job and its Pods that are about its last Pod, the oldest first.

    The last is the one that was created last; where no event tells of that, because those of a Job
    that ran for long are older and gone, the one whose own events begin last.
    """
    ordered = sorted(events, key=last_seen)
    of_pods: dict[str | None, list[EventView]] = {}
    for event in ordered:
        about = event.involved_object
        if about is not None and about.kind == "Pod":
            of_pods.setdefault(about.name, []).append(event)
    last = next(reversed(pods_of_job(ordered) or of_pods), None)
    return of_pods.get(last, [])


def is_unexplained(outcome: Outcome, pods: Sequence[PodView]) -> bool:
    """Whether events may tell more of an outcome: the Pods are gone, which knew why."""
    return outcome.reason is FailureReason.POD_MISSING and not pods


def explain_end(failure: Condition, pods: Sequence[PodView], events: Iterable[EventView]) -> Outcome:
    """The outcome of a Job whose condition ``Failed`` holds (``explain_failure``).

    Where no Pod is left, ``events``, about the Job and its Pods, speak for the last of them.
    """
    outcome = explain_failure(failure, pods)
    if not is_unexplained(outcome, pods):
        return outcome
    return disruption_from_events(events_of_last_pod(events)) or outcome
