"""What events still tell of a task whose Job is gone. Pure.

A successful Job is deleted, and so is one whose failure was certain while it went on. The API
server keeps their events, and those of their Pods, for an hour (kube-apiserver, ``--event-ttl``).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from oz_agent_worker.common.durations import short_span
from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.backends.kubernetes.objects import EventView, last_seen
from oz_agent_worker.worker.backends.kubernetes.status.disruptions import disruption_from_events
from oz_agent_worker.worker.backends.kubernetes.status.failure import events_of_last_pod, pods_of_job
from oz_agent_worker.worker.backends.kubernetes.status.messages import quote_cluster

from .explain import Explanation
from .task_jobs import ambiguous, is_pod_name, pod_base
from .task_state import State
from .timeline import event_lines

__all__ = ["DeletedJob", "explain_deleted", "find_deleted_jobs"]

_JOB: Final = re.compile(r"oz-task-(?P<run>.+?)-exec-(?P<execution>.{1,8})")
# Job controller, events of a Job that has ended.
_COMPLETED: Final = "Completed"
_FAILED: Final = frozenset({"BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"})
# kubelet: that a container was not created, in one word; kube-scheduler: of a Pod that is being deleted.
_SAYS_NOTHING: Final = re.compile(r"Error: \w+$|skip schedule deleting pod")


@dataclass(frozen=True, slots=True)
class DeletedJob:
    """What is left of a Job: its name, and the events about it and its Pods, the oldest first.

    Where its Pods alone tell of it, the name is what theirs hold of it: 58 characters at most.
    """

    job: str
    events: tuple[EventView, ...]

    @property
    def run(self) -> str:
        """The task's ID, as far as the Job's name holds it."""
        named = _JOB.fullmatch(self.job)
        return named["run"] if named else self.job

    @property
    def names_job(self) -> bool:
        """Whether an event is about the Job itself, so that its name is whole."""
        return any(_is_about(event, "Job") for event in self.events)

    def may_be_of(self, job: str) -> bool:
        """Whether the Pods may be those of the Job of this name."""
        pods = (event.involved_object for event in self.events if _is_about(event, "Pod"))
        return any(pod is not None and is_pod_name(pod.name or "", job) for pod in pods)


def find_deleted_jobs(events: Iterable[EventView], text: str) -> list[DeletedJob]:
    """The Jobs of which ``events`` tell and that ``text`` means, the newest first.

    ``text`` means what it does for a Job that stands (``inspected.matching_jobs``); of an execution
    ID the name of a Job holds the end alone.

    Raises:
        AmbiguousTaskError: it is the beginning of several tasks' names.
    """
    traces = _all(sorted(events, key=last_seen))
    for means in (_exactly, _at_the_beginning):
        found = [trace for trace in traces if means(trace, text.lower())]
        runs = {trace.run for trace in found}
        if len(runs) > 1:
            raise ambiguous(text, runs)
        if found:
            return sorted(found, key=lambda trace: last_seen(trace.events[-1]), reverse=True)
    return []


def _all(events: Sequence[EventView]) -> list[DeletedJob]:
    """All Jobs of tasks that events tell of."""
    of_jobs: dict[str, list[EventView]] = {}
    of_pods: dict[str, list[EventView]] = {}
    for event in events:
        about = event.involved_object
        if about is not None and about.name and about.kind in {"Job", "Pod"}:
            of = of_jobs if about.kind == "Job" else of_pods
            of.setdefault(about.name, []).append(event)
    found = []
    for job, about_job in of_jobs.items():
        if _JOB.fullmatch(job):
            names = set(pods_of_job(about_job)) or {pod for pod in of_pods if is_pod_name(pod, job)}
            told = [*about_job, *(event for name in sorted(names) for event in of_pods.pop(name, ()))]
            found.append(DeletedJob(job, tuple(sorted(told, key=last_seen))))
    for pod, about_pod in of_pods.items():
        # The events of a Job that ran for long are older than those of its Pod, and gone.
        base = pod_base(pod).removesuffix("-")
        if _JOB.fullmatch(base):
            found.append(DeletedJob(base, tuple(about_pod)))
    return found


def _exactly(trace: DeletedJob, text: str) -> bool:
    meant, named = _JOB.fullmatch(job_name(ExecutionKey(text, text))), _JOB.fullmatch(trace.job)
    if meant is None or named is None:
        return False
    ids = named["run"] == meant["run"] or named["execution"] == meant["execution"]
    return ids or text == trace.job or is_pod_name(text, trace.job)


def _at_the_beginning(trace: DeletedJob, text: str) -> bool:
    return trace.job.startswith(text) or trace.run.startswith(re.sub("[^a-z0-9]", "-", text))


def explain_deleted(trace: DeletedJob, namespace: str, now: datetime) -> Explanation:
    """Explain a task from what is left of it."""
    says, outcome = _answer(trace)
    time = trace.events[-1].time
    seen = (now - datetime.fromisoformat(time)).total_seconds() if time else 0.0
    return Explanation(
        task_id=trace.run,
        execution_id="",
        worker="",
        owner="",
        namespace=namespace,
        job=trace.job,
        state=State.GONE,
        reason=outcome.reason.value if outcome is not None and outcome.reason else "",
        headline=f"Task {trace.run} {says}.",
        evidence=tuple(event_lines(trace.events)),
        advice="see the report at the control plane, and the worker's evidence_dir where one is set",
        outlook=f"its last event is {short_span(seen)} old; the API server keeps events for an hour",
    )


def _answer(trace: DeletedJob) -> tuple[str, Outcome | None]:
    """How the task ended, as far as the events tell."""
    end = next((event for event in reversed(trace.events) if _is_end(event)), None)
    if end is not None and end.reason == _COMPLETED:
        return "succeeded, and its Job was deleted, as it is when its result is delivered", None
    of_last_pod = events_of_last_pod(trace.events)
    outcome = disruption_from_events(of_last_pod)
    if outcome is not None and outcome.reason is not None:
        return f"failed ({outcome.reason.value}), and its Job is gone: {outcome.message}", outcome
    of_job = [event for event in trace.events if _is_about(event, "Job")]
    cause = _cause(sorted([*of_job, *of_last_pod], key=last_seen)) or end
    why = quote_cluster(cause.reason, cause.message) if cause is not None else ""
    if end is not None:
        return f"failed{why}, and its Job is gone: its TTL is over, or somebody deleted it", None
    deleted = "has no Job any more: it was deleted before it had ended"
    return f"{deleted}, after a warning{why}" if why else f"{deleted}, as one that is cancelled is", None


def _is_end(event: EventView) -> bool:
    return _is_about(event, "Job") and (event.reason == _COMPLETED or event.reason in _FAILED)


def _is_about(event: EventView, kind: str) -> bool:
    return event.involved_object is not None and event.involved_object.kind == kind


def _cause(events: Sequence[EventView]) -> EventView | None:
    """The newest warning that says why; those before a container's start have passed."""
    since = max((at for at, event in enumerate(events) if event.reason == "Started"), default=-1) + 1
    warnings = [e for e in reversed(events[since:]) if e.type == "Warning" and e.reason not in _FAILED]
    telling = (event for event in warnings if not _SAYS_NOTHING.match(event.message or ""))
    return next(telling, warnings[0] if warnings else None)
