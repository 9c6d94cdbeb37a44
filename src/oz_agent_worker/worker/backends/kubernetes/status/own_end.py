"""Whether the container ``task`` ended by itself, or because its Pod was ended. Pure.

Kubernetes' times are whole seconds, and nodes have clocks of their own. So a container that failed in
the second in which its Pod was asked to end has failed by itself, unless a signal ended it.
"""

from datetime import datetime, timedelta
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView, Terminated

from .disruptions import disruption_target, is_disrupted

__all__ = ["ended_by_deletion", "own_end", "past_deadline", "task_end"]

#: Exit codes of a container that ended by SIGTERM or SIGKILL.
_SIGNALS_OF_DELETION: Final = frozenset({128 + 15, 128 + 9})
_CLOCK_SKEW: Final = timedelta(seconds=60)


def task_end(pod: PodView) -> Terminated | None:
    """How the container ``task`` ended, whatever the cause; ``None`` where it has not, or nobody saw it."""
    ends = (c.terminated for c in pod.container_statuses if c.name == TASK_CONTAINER)
    ended = next(ends, None)
    return ended if ended is not None and not ended.is_unseen else None


def own_end(pod: PodView, verdict: Condition | None = None) -> Terminated | None:
    """How the container ``task`` ended by itself; ``None`` where it did not.

    ``verdict`` is the condition by which the Job controller ended the Job, if it did. An exit code of 0
    after a request to end shows no success: the agent may have ended before it was done.
    """
    ended = task_end(pod)
    if ended is None or _ended_by_disruption(pod, ended) or _ended_by_deadline(pod, ended, verdict):
        return None
    return None if ended_by_deletion(pod, ended, verdict) else ended


def ended_by_deletion(pod: PodView, ended: Terminated, verdict: Condition | None) -> bool:
    """Whether a container ended because its Pod was deleted, and not before.

    A deletion's time is that of its request plus the grace period (meta/v1,
    ObjectMeta.deletionTimestamp). The node's clock may differ from the API server's, so a container
    that ended by SIGTERM or SIGKILL counts even if it ended up to a minute before the request. A request
    that came after the Job had ended, as when its TTL is 0, has ended nothing.
    """
    deleted, grace = pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds
    if not deleted:
        return False
    requested = datetime.fromisoformat(deleted) - timedelta(seconds=grace or 0)
    decided = verdict.last_transition_time if verdict is not None else None
    if decided and datetime.fromisoformat(decided) < requested:
        return False
    if not ended.finished_at:
        return True
    finished = datetime.fromisoformat(ended.finished_at)
    if ended.code in _SIGNALS_OF_DELETION:
        return finished >= requested - _CLOCK_SKEW
    # In one second with the request, a failure is the task's own; a success may be the answer to it.
    return finished >= requested if ended.code == 0 else finished > requested


def past_deadline(pod: PodView | None, verdict: Condition | None) -> Condition | PodView | None:
    """Return what says that Job or Pod ran into its deadline (batch/v1, JobReasonDeadlineExceeded)."""
    return next((seen for seen in (verdict, pod) if seen and seen.reason == "DeadlineExceeded"), None)


def _ended_by_disruption(pod: PodView, ended: Terminated) -> bool:
    if not is_disrupted(pod) or (ended.code == 0 and pod.phase == "Succeeded"):
        return False
    target = disruption_target(pod)
    return not _ended_before(target.last_transition_time if target else None, ended)


def _ended_by_deadline(pod: PodView, ended: Terminated, verdict: Condition | None) -> bool:
    passed = past_deadline(pod, verdict)
    if passed is None:
        return False
    return not _ended_before(passed.last_transition_time if isinstance(passed, Condition) else None, ended)


def _ended_before(time: str | None, ended: Terminated) -> bool:
    """Whether a container ended before this time; a failure, so long before that clocks cannot be why."""
    if not time or not ended.finished_at:
        return False
    skew = _CLOCK_SKEW if ended.code != 0 else timedelta()
    return datetime.fromisoformat(ended.finished_at) < datetime.fromisoformat(time) - skew
