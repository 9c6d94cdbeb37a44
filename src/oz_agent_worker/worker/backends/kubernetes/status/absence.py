"""Jobs that have no Pod although they should. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from oz_agent_worker.protocol.outcome import FailureReason, failed
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView

from .events import NOT_READ, EventFacts, Refusal
from .policy import ObservationPolicy, Trouble

__all__ = ["missing_pod"]

#: Conditions of a Job that needs no Pod: it waits to be admitted (Kueue), or is about to end.
_NEEDS_NONE: Final = ("Suspended", "FailureTarget", "SuccessCriteriaMet", "Complete", "Failed")
#: Between two attempts of a Job that is retried, in seconds (Job controller, MaxJobPodFailureBackOff).
_LONGEST_PAUSE: Final = 600.0


def missing_pod(
    job: JobView, pods: Sequence[PodView], policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[Trouble]:
    """Yield why a Job has no Pod that runs or will run.

    Only a Job that the Job controller has seen to is in trouble: in a burst it is behind, and
    while it is away no Job gets a Pod. Neither is about the task. That it is behind shows in a
    Pod which has ended and is not counted: after an API server's restart its own watches may
    take a minute to come back, and a Pod that succeeded is all that the Job needed.
    """
    status = job.status
    if status is None or status.start_time is None or status.active:
        return
    if any(job.condition(kind) for kind in _NEEDS_NONE):
        return
    if any(pod.phase != "Failed" for pod in pods) or len(pods) > (status.failed or 0):
        return
    grace, why = _patience(policy, facts)
    if status.failed and facts.refusal is None:
        grace += _LONGEST_PAUSE
    outcome = failed(FailureReason.POD_MISSING, f"The Job has no Pod{why}")
    about = job.metadata.uid or ""
    yield Trouble(f"{about}/pod_missing", grace, outcome, about, policy.ask_after)


def _patience(policy: ObservationPolicy, facts: EventFacts) -> tuple[float, str]:
    """How long the state may last, and how a message goes on that says so."""
    if facts.refusal is Refusal.QUOTA:
        why = (
            f": there is no room for it in the namespace's quota{facts.refused}. Raise the quota, or"
            " backend.kubernetes.unschedulable_timeout where room comes free when other tasks end"
        )
        return policy.unschedulable_timeout or math.inf, why
    if facts.refusal is Refusal.FINAL:
        why = (
            f": the cluster does not admit it{facts.refused}. Change backend.kubernetes.pod_template or the"
            " policy; `oz-agent-worker doctor` shows what tasks need"
        )
        return policy.refusal_grace, why
    words = facts.refused or facts.warning
    why = f" after {policy.stuck_timeout:g} s{words}: its events tell more (kubectl describe job)"
    return policy.stuck_timeout, why
