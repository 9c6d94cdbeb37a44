"""What a cluster holds of a task, as lines: its Job, Pods, containers and events. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.protocol.outcome import describe_exit_code
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView, last_seen
from oz_agent_worker.worker.backends.kubernetes.objects import (
    Condition,
    ContainerStatus,
    PodView,
    Terminated,
    in_order,
)
from oz_agent_worker.worker.backends.kubernetes.status.messages import quote_cluster

from .task_jobs import TaskJob

__all__ = ["TimelineEntry", "event_entries", "timeline"]

#: The most events that are shown, the newest of them.
MAX_EVENTS: Final = 20


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One fact from the cluster; ``at`` is its time (RFC 3339), if it has one."""

    about: str
    text: str
    at: str | None = None


def timeline(
    job: TaskJob, pods: Sequence[PodView], events: Sequence[EventView], unread: str = ""
) -> Iterator[TimelineEntry]:
    """Yield the entries of the Job, of each Pod with its containers, and of the newest events.

    ``unread`` says why events are missing.
    """
    about = f"Job {job.metadata.name}"
    yield TimelineEntry(about, "created", job.metadata.creation_timestamp)
    for condition in job.conditions:
        if condition.status == "True":
            yield _condition_entry(about, condition)
    if job.metadata.deletion_timestamp:
        yield TimelineEntry(about, "deleted", job.metadata.deletion_timestamp)
    for pod in in_order(pods):
        yield from _pod_entries(pod)
    yield from event_entries(events)
    if unread:
        yield TimelineEntry("events", unread)


def event_entries(events: Sequence[EventView]) -> Iterator[TimelineEntry]:
    """Yield the newest events, the oldest first."""
    for event in sorted(events, key=last_seen)[-MAX_EVENTS:]:
        times = max(event.count or 1, (event.series.count if event.series else None) or 1)
        repeated = f" ({times} times)" if times > 1 else ""
        by = f" by {event.component}" if event.component else ""
        kind = (event.involved_object and event.involved_object.kind) or "an object"
        message = " ".join((event.message or "").split())
        text = f"{event.reason or 'no reason'}{by}{repeated}: {message}"
        yield TimelineEntry(f"event of {kind}", text, event.time)


def _condition_entry(about: str, condition: Condition) -> TimelineEntry:
    false = " is false" if condition.status == "False" else ""
    text = f"{condition.type}{false}{quote_cluster(condition.reason, condition.message)}"
    return TimelineEntry(about, text, condition.last_transition_time)


def _pod_entries(pod: PodView) -> Iterator[TimelineEntry]:
    about = f"Pod {pod.metadata.name}"
    node = f" on node {pod.node_name}" if pod.node_name else ""
    text = f"{pod.phase or 'of unknown phase'}{node}{quote_cluster(pod.reason, pod.message)}"
    yield TimelineEntry(about, text, pod.metadata.creation_timestamp)
    if pod.metadata.deletion_timestamp:
        yield TimelineEntry(
            about, "being deleted, ends at this time at the latest", pod.metadata.deletion_timestamp
        )
    for condition in pod.conditions:
        # What the other conditions say, the states of the containers say as well.
        if (condition.type, condition.status) in {("DisruptionTarget", "True"), ("PodScheduled", "False")}:
            yield _condition_entry(about, condition)
    for container in pod.init_container_statuses:
        yield _container_entry("init container", container)
    for container in pod.container_statuses:
        yield _container_entry("container", container)


def _container_entry(kind: str, container: ContainerStatus) -> TimelineEntry:
    about = f"{kind} {container.name}"
    again = f", started {container.restart_count + 1} times" if container.restart_count else ""
    if (ended := container.terminated) is not None:
        return TimelineEntry(about, f"ended with {_describe_end(ended)}{again}", ended.finished_at)
    if container.running is not None:
        return TimelineEntry(about, f"runs{again}", container.running.started_at)
    waits = quote_cluster(container.waiting.reason, container.waiting.message) if container.waiting else ""
    last = container.last_terminated
    before = f"; it ended before with {_describe_end(last)}" if last is not None else ""
    return TimelineEntry(about, f"waits{waits}{again}{before}")


def _describe_end(ended: Terminated) -> str:
    reason = ended.reason if ended.reason not in {"Completed", "Error"} else None
    return f"{describe_exit_code(ended.code)}{quote_cluster(reason, ended.message)}"
