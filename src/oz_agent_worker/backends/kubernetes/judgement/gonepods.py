"""Why a Job failed whose Pods are gone, from the events that outlive them. Pure.

A preempted or evicted Pod is deleted, and with it the condition that says so; its events stay
for an hour (kube-apiserver, ``--event-ttl``). That a Pod was evicted through the API, as
``kubectl drain`` does it, leaves no event of its own.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from oz_agent_worker.backends.kubernetes.views import Condition, EventView, PodView
from oz_agent_worker.core.outcome import FailureReason, Outcome

from .disruptions import TELLING_EVENTS, told_disruption
from .podevents import last_seen
from .postmortem import explain_failure

__all__ = ["TELLING_EVENTS", "created_pods", "explain_end", "is_unexplained"]

# Job controller: the event of a Pod that it has created.
_CREATED: Final = re.compile(r"Created pod: (\S+)")


def created_pods(events: Iterable[EventView]) -> list[str]:
    """The names of the Pods that a Job has had, the oldest first, from the events about it."""
    ordered = sorted((e for e in events if e.reason == "SuccessfulCreate"), key=last_seen)
    found = (_CREATED.search(event.message or "") for event in ordered)
    return [match[1] for match in found if match]


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
    about = list(events)
    return told_disruption(_of_last_pod(about)) or outcome


def _of_last_pod(events: Sequence[EventView]) -> list[EventView]:
    """The events about the Pod that was created last, the oldest first."""
    names = created_pods(events)
    of_pods = [event for event in events if event.involved_object and event.involved_object.kind == "Pod"]
    if names:
        of_pods = [e for e in of_pods if e.involved_object and e.involved_object.name == names[-1]]
    return sorted(of_pods, key=last_seen)
