"""What the events of a Pod or a Job say about its problem. Pure.

Events are hints: they come late, are repeated, merged and dropped, and stay after what they
report has passed. So the newest event on a question counts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView, last_seen

from .admission import is_temporary_refusal, refusal_message
from .messages import cluster_message, task_text

__all__ = [
    "NOT_READ",
    "EventFacts",
    "Refusal",
    "ScaleUp",
    "event_facts",
    "quotes_task",
    "unreadable",
    "with_scale_up",
]


class ScaleUp(Enum):
    """What an autoscaler has decided about a Pod that waits for a node."""

    UNKNOWN = "unsaid"
    COMING = "coming"
    REFUSED = "refused"


class Refusal(Enum):
    """Why a Job's Pods are not created."""

    QUOTA = "quota"
    """There is no room in the namespace's quota until other Pods end."""
    PASSING = "passing"
    """The attempt failed, such as the call of a webhook; the next one may succeed."""
    FINAL = "final"
    """Admission refuses such Pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """What the events about one object say.

    ``about`` is its UID. ``read_at`` is when they were read, in seconds of the worker's monotonic
    clock: minus infinity for never, infinity where they cannot be read at all. The texts are the
    cluster's message, and empty if there is none.

    ``mount``: why volumes are not mounted. ``pulling``: an image is being pulled. ``autoscaler``: the
    message about ``scale_up``. ``refused``: the message about ``refusal``. ``warning``: the newest warning,
    and ``task_text`` the container's own text in it.
    """

    about: str = ""
    read_at: float = -math.inf
    mount: str = ""
    pulling: bool = False
    scale_up: ScaleUp = ScaleUp.UNKNOWN
    autoscaler: str = ""
    refusal: Refusal | None = None
    refused: str = ""
    warning: str = ""
    task_text: TaskText | None = None


#: The longest refusal that is quoted: Pod Security names every field that it wants.
_MAX_REFUSAL: Final = 1000

#: Facts of an object whose events have not been read.
NOT_READ: Final = EventFacts()
#: In place of an event that is not there.
_NO_EVENT: Final = EventView()

# kubelet, events; FailedAttachVolume is the attach-detach controller's as well.
_MOUNT_FAILURES: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
# Words of the kubelet that it has only for a Pod whose volumes are mounted.
_PAST_MOUNTS: Final = frozenset({"Pulling", "Pulled", "Created", "Started", "FailedCreatePodSandBox"})
# Events whose message holds what a program of the Pod wrote (kubelet: probes, and hooks of older ones).
_QUOTING: Final = frozenset({"Unhealthy", "ProbeWarning", "FailedPostStartHook", "FailedPreStopHook"})
_IMAGES: Final = frozenset({"Pulling", "Pulled", "BackOff", "Failed", "Created", "Started"})

_SCALE_UP: Final[Mapping[str, ScaleUp]] = MappingProxyType(
    {
        "TriggeredScaleUp": ScaleUp.COMING,  # cluster-autoscaler, EventingScaleUpStatusProcessor
        "NotTriggerScaleUp": ScaleUp.REFUSED,  # the same
        "Nominated": ScaleUp.COMING,  # Karpenter, NominatePodEvent
    }
)
# cluster-autoscaler, SkippedReasons that pass: it tries such a node group again.
_PASSING_SKIPS: Final = ("in backoff", "not ready for scale-up")


def unreadable(about: str) -> EventFacts:
    """Facts of an object whose events the worker may not read."""
    return EventFacts(about=about, read_at=math.inf)


def with_scale_up(facts: EventFacts, message: str) -> EventFacts:
    """Facts of a Pod that may fit a node which the autoscaler adds for another Pod.

    cluster-autoscaler writes no event about such a Pod.
    """
    return facts if facts.autoscaler else replace(facts, scale_up=ScaleUp.COMING, autoscaler=message)


def event_facts(about: str, events: Iterable[EventView], read_at: float) -> EventFacts:
    """Summarize ``events``, all about the object with the UID ``about``."""
    # Events of the same second are listed by name, which is the order of their creation.
    ordered = sorted(events, key=last_seen)
    # Job controller, FailedCreatePodReason and SuccessfulCreatePodReason.
    refused = _newest(ordered, {"FailedCreate"}, {"SuccessfulCreate"})
    autoscaler = _autoscaler(ordered)
    warning = next((event for event in reversed(ordered) if event.type == "Warning"), _NO_EVENT)
    refusal_text = refusal_message(refused.message or "")
    return EventFacts(
        about=about,
        read_at=read_at,
        mount=_words(_newest(ordered, _MOUNT_FAILURES, _PAST_MOUNTS)),
        pulling=_newest(ordered, {"Pulling"}, _IMAGES) is not _NO_EVENT,
        scale_up=_decision(autoscaler),
        autoscaler=_words(autoscaler),
        refusal=_refusal(refused.message or "") if refused is not _NO_EVENT else None,
        refused=cluster_message(refused.reason, refusal_text, limit=_MAX_REFUSAL),
        warning=_words(warning),
        task_text=task_text(warning.message) if quotes_task(warning) else None,
    )


def _newest(ordered: Sequence[EventView], wanted: AbstractSet[str], passed: AbstractSet[str]) -> EventView:
    """Return the newest event with a ``wanted`` reason, unless a later one shows that it has ``passed``."""
    event = next((e for e in reversed(ordered) if e.reason in wanted or e.reason in passed), _NO_EVENT)
    return event if event.reason in wanted else _NO_EVENT


def _autoscaler(ordered: Sequence[EventView]) -> EventView:
    """Return the autoscaler's newest decision; without one, its newest event."""
    spoken = [e for e in ordered if e.reason in _SCALE_UP or "karpenter" in e.component]
    decisions = [e for e in spoken if _decision(e) is not ScaleUp.UNKNOWN]
    return next(reversed(decisions or spoken), _NO_EVENT)


def _decision(event: EventView) -> ScaleUp:
    decision = _SCALE_UP.get(event.reason or "", ScaleUp.UNKNOWN)
    passing = any(skip in (event.message or "") for skip in _PASSING_SKIPS)
    return ScaleUp.UNKNOWN if decision is ScaleUp.REFUSED and passing else decision


def _refusal(message: str) -> Refusal:
    if "exceeded quota" in message:  # API server, plugin ResourceQuota
        return Refusal.QUOTA
    return Refusal.PASSING if is_temporary_refusal(message) else Refusal.FINAL


def quotes_task(event: EventView) -> bool:
    """Whether the event's message holds what a program of the Pod wrote."""
    return event.reason in _QUOTING


def _words(event: EventView) -> str:
    return cluster_message(event.reason, None if quotes_task(event) else event.message)
