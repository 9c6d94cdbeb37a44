"""What a cluster holds of a task as lines to read: its Job, Pods, containers and events. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.protocol.outcome import describe_exit_code
from oz_agent_worker.worker.backends.kubernetes.objects import (
    Condition,
    ContainerStatus,
    EventView,
    PodView,
    Terminated,
    last_seen,
)
from oz_agent_worker.worker.backends.kubernetes.status.messages import quote_cluster

from .task_jobs import TaskJob

__all__ = ["TimelineEntry", "event_lines", "evidence_lines"]

#: The most events that are shown, the newest of them.
MAX_EVENTS: Final = 20


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that the cluster says. ``at`` is when (RFC 3339), ``None`` where it does not tell."""

    about: str
    text: str
    at: str | None = None


def evidence_lines(
    job: TaskJob, pods: Sequence[PodView], events: Sequence[EventView], unread: str = ""
) -> Iterator[TimelineEntry]:
    """Yield the evidence, from the whole to the parts, and the events in the order of their time."""
    yield from _of_job(job)
    for pod in sorted(pods, key=lambda pod: pod.metadata.creation_timestamp or ""):
        yield from _of_pod(pod)
    yield from event_lines(events)
    if unread:
        yield TimelineEntry("events", unread)


def event_lines(events: Sequence[EventView]) -> Iterator[TimelineEntry]:
    """Yield the newest events in the order of their time."""
    ordered = sorted(events, key=last_seen)
    for event in ordered[-MAX_EVENTS:]:
        yield _of_event(event)


def _of_job(job: TaskJob) -> Iterator[TimelineEntry]:
    about = f"Job {job.metadata.name}"
    yield TimelineEntry(about, "created", job.metadata.creation_timestamp)
    for condition in job.conditions:
        if condition.status == "True":
            yield _of_condition(about, condition)
    if job.metadata.deletion_timestamp:
        yield TimelineEntry(about, "deleted", job.metadata.deletion_timestamp)


def _of_condition(about: str, condition: Condition) -> TimelineEntry:
    false = " is not so" if condition.status == "False" else ""
    text = f"{condition.type}{false}{quote_cluster(condition.reason, condition.message)}"
    return TimelineEntry(about, text, condition.last_transition_time)


def _of_pod(pod: PodView) -> Iterator[TimelineEntry]:
    about = f"Pod {pod.metadata.name}"
    node = f" on node {pod.node_name}" if pod.node_name else ""
    words = quote_cluster(pod.reason, pod.message)
    yield TimelineEntry(
        about, f"{pod.phase or 'of unknown phase'}{node}{words}", pod.metadata.creation_timestamp
    )
    if pod.metadata.deletion_timestamp:
        yield TimelineEntry(about, "told to end, at the latest by this time", pod.metadata.deletion_timestamp)
    for condition in pod.conditions:
        if _is_telling(condition):
            yield _of_condition(about, condition)
    for container in pod.init_container_statuses:
        yield _of_container("init container", container)
    for container in pod.container_statuses:
        yield _of_container("container", container)


def _is_telling(condition: Condition) -> bool:
    """Whether the state of a container does not say the same."""
    if condition.type == "DisruptionTarget":
        return condition.status == "True"
    return condition.type == "PodScheduled" and condition.status == "False"


def _of_container(kind: str, container: ContainerStatus) -> TimelineEntry:
    about = f"{kind} {container.name}"
    again = f", started {container.restart_count + 1} times" if container.restart_count else ""
    if container.terminated is not None:
        ended = container.terminated
        return TimelineEntry(about, f"ended with {_end(ended)}{again}", ended.finished_at)
    if container.running is not None:
        return TimelineEntry(about, f"runs{again}", container.running.started_at)
    waits = quote_cluster(container.waiting.reason, container.waiting.message) if container.waiting else ""
    last = container.last_terminated
    before = f"; it ended before with {_end(last)}" if last is not None else ""
    return TimelineEntry(about, f"waits{waits}{again}{before}")


def _end(ended: Terminated) -> str:
    reason = ended.reason if ended.reason not in {"Completed", "Error"} else None
    return f"{describe_exit_code(ended.code)}{quote_cluster(reason, ended.message)}"


def _of_event(event: EventView) -> TimelineEntry:
    times = max(event.count or 1, (event.series.count if event.series else None) or 1)
    often = f" ({times} times)" if times > 1 else ""
    by = f" by {event.component}" if event.component else ""
    text = f"{event.reason or 'no reason'}{by}{often}: {' '.join((event.message or '').split())}"
    about = event.involved_object.kind if event.involved_object else None
    return TimelineEntry(f"event of {about or 'an object'}", text, event.time)
