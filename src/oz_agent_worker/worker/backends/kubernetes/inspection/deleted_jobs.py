"""Explains a task whose Job is deleted, from the events that are left. Pure.

The worker deletes the Job of a task that succeeded, and of one whose failure was certain while the Job
went on. The API server keeps the events of the Job and its Pods for an hour (kube-apiserver,
``--event-ttl``).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from oz_agent_worker.common.durations import short_span
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView, last_seen
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.backends.kubernetes.status.disruptions import disruption_from_events
from oz_agent_worker.worker.backends.kubernetes.status.failure import events_of_last_pod, pods_of_job
from oz_agent_worker.worker.backends.kubernetes.status.messages import quote_cluster

from .explain import Explanation
from .task_jobs import ambiguous, is_pod_name, pod_base
from .task_state import State
from .timeline import event_entries

__all__ = ["DeletedJob", "explain_deleted", "find_deleted_jobs"]

_JOB: Final = re.compile(r"oz-task-(?P<run>.+?)-exec-(?P<execution>.{1,8})")
# Job controller, events of a Job that has ended.
_COMPLETED: Final = "Completed"
_FAILED: Final = frozenset({"BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"})
# kubelet: that a container was not created, in one word; kube-scheduler: of a Pod that is being deleted.
_UNINFORMATIVE: Final = re.compile(r"Error: \w+$|skip schedule deleting pod")


@dataclass(frozen=True, slots=True)
class DeletedJob:
    """A deleted Job: its name, and the events about it and its Pods, the oldest first.

    If only events of its Pods are left, the name is what their names hold of it: 58 characters.
    """

    name: str
    events: tuple[EventView, ...]

    @property
    def run(self) -> str:
        """The task's ID, as far as the Job's name holds it."""
        named = _JOB.fullmatch(self.name)
        return named["run"] if named else self.name

    @property
    def has_full_name(self) -> bool:
        """Whether an event is about the Job itself, so that its name is whole."""
        return any(_kind(event) == "Job" for event in self.events)

    def may_be(self, job: str) -> bool:
        """Whether the Pods may be those of the Job of this name."""
        return any(_kind(event) == "Pod" and is_pod_name(_name(event), job) for event in self.events)


def find_deleted_jobs(events: Iterable[EventView], text: str) -> list[DeletedJob]:
    """Return the Jobs of ``events`` that ``text`` means, the newest first.

    ``text`` means the same as for a Job that exists (``task_jobs.matching_jobs``); of an execution ID
    the name of a Job holds only the end.

    Raises:
        AmbiguousTaskError: it is the beginning of several tasks' names.
    """
    jobs = _group_by_job(sorted(events, key=last_seen))
    for matches in (_matches_exactly, _matches_beginning):
        found = [job for job in jobs if matches(job, text.lower())]
        runs = {job.run for job in found}
        if len(runs) > 1:
            raise ambiguous(text, runs)
        if found:
            return sorted(found, key=lambda job: last_seen(job.events[-1]), reverse=True)
    return []


def _group_by_job(events: Sequence[EventView]) -> list[DeletedJob]:
    """Return the Jobs of tasks that the events are about."""
    by_kind: dict[str, dict[str, list[EventView]]] = {"Job": {}, "Pod": {}}
    for event in events:
        if _kind(event) in by_kind and _name(event):
            by_kind[_kind(event)].setdefault(_name(event), []).append(event)
    of_pods, found = by_kind["Pod"], []
    for job, of_job in by_kind["Job"].items():
        if _JOB.fullmatch(job):
            names = set(pods_of_job(of_job)) or {pod for pod in of_pods if is_pod_name(pod, job)}
            of_both = [*of_job, *(event for name in sorted(names) for event in of_pods.pop(name, ()))]
            found.append(DeletedJob(job, tuple(sorted(of_both, key=last_seen))))
    for pod, of_pod in of_pods.items():
        # The events of a Job that ran for long are older than those of its Pod, and expired.
        base = pod_base(pod).removesuffix("-")
        if _JOB.fullmatch(base):
            found.append(DeletedJob(base, tuple(of_pod)))
    return found


def _matches_exactly(job: DeletedJob, text: str) -> bool:
    meant, named = _JOB.fullmatch(job_name(ExecutionKey(text, text))), _JOB.fullmatch(job.name)
    assert meant is not None
    assert named is not None
    ids = named["run"] == meant["run"] or named["execution"] == meant["execution"]
    return ids or text == job.name or is_pod_name(text, job.name)


def _matches_beginning(job: DeletedJob, text: str) -> bool:
    return job.name.startswith(text) or job.run.startswith(re.sub("[^a-z0-9]", "-", text))


def explain_deleted(job: DeletedJob, namespace: str, now: datetime) -> Explanation:
    """Explain a task whose Job is deleted."""
    says, reason = _explain_end(job.events)
    time = job.events[-1].time
    age = (now - datetime.fromisoformat(time)).total_seconds() if time else 0.0
    return Explanation(
        task_id=job.run,
        namespace=namespace,
        job=job.name,
        state=State.GONE,
        reason=reason,
        headline=f"Task {job.run} {says}.",
        evidence=tuple(event_entries(job.events)),
        advice="see the report at the control plane, and the worker's evidence_dir where one is set",
        outlook=f"its last event is {short_span(age)} old; the API server keeps events for an hour",
    )


def _explain_end(events: Sequence[EventView]) -> tuple[str, str]:
    """Return how the task ended, as far as the events show, and the reason that the worker reported."""
    of_job = [event for event in events if _kind(event) == "Job"]
    end = next((e for e in reversed(of_job) if e.reason == _COMPLETED or e.reason in _FAILED), None)
    if end is not None and end.reason == _COMPLETED:
        return "succeeded, and its Job was deleted, as it is when its result is delivered", ""
    of_last_pod = events_of_last_pod(events)
    outcome = disruption_from_events(of_last_pod)
    if outcome is not None and outcome.reason is not None:
        reason = outcome.reason.value
        return f"failed ({reason}), and its Job is gone: {outcome.message}", reason
    cause = _last_warning(sorted([*of_job, *of_last_pod], key=last_seen)) or end
    why = quote_cluster(cause.reason, cause.message) if cause is not None else ""
    if end is not None:
        return f"failed{why}, and its Job is gone: its TTL is over, or somebody deleted it", ""
    deleted = "has no Job any more: it was deleted before it had ended"
    return f"{deleted}, after a warning{why}" if why else f"{deleted}, as one that is cancelled is", ""


def _last_warning(events: Sequence[EventView]) -> EventView | None:
    """Return the newest warning that says why; a container's start makes earlier ones obsolete."""
    since = max((at for at, event in enumerate(events) if event.reason == "Started"), default=-1) + 1
    warnings = [e for e in reversed(events[since:]) if e.type == "Warning" and e.reason not in _FAILED]
    informative = (event for event in warnings if not _UNINFORMATIVE.match(event.message or ""))
    return next(informative, warnings[0] if warnings else None)


def _kind(event: EventView) -> str:
    return (event.involved_object and event.involved_object.kind) or ""


def _name(event: EventView) -> str:
    return (event.involved_object and event.involved_object.name) or ""
