"""The Jobs and Pods of the store by Job name, and the handlers of the changes of one Job.

What a change costs does not grow with the number of Jobs, Pods or handlers.
"""

from collections.abc import Collection, Iterator
from typing import Protocol

from msgspec.structs import replace

from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView

from .store import Change

__all__ = ["JobHandler", "JobIndex", "JobListener"]


class JobHandler(Protocol):
    """Handles the changes of one Job: an execution in flight. Neither method may block or raise."""

    uid: str
    """The Job's UID; a Job of the same name with another UID is not this handler's."""
    created_at: float
    """When the API server had accepted the Job, in monotonic seconds."""

    def on_update(self) -> None:
        """The Job or one of its Pods has changed."""
        ...

    def on_delete(self, last: JobView | None) -> None:
        """The Job is deleted or being deleted; ``last`` is its last state, ``None`` where unknown."""
        ...


class JobListener(Protocol):
    """Handles the changes of every Job. Neither method may block or raise."""

    def on_job_change(self, change: Change[JobView]) -> None:
        """A Job was added, updated or deleted; its handlers have been called."""
        ...

    def on_relist(self) -> None:
        """All Jobs were listed, and every difference has been reported."""
        ...


class JobIndex:
    """The current Jobs and their Pods, and the handlers of their changes."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobView] = {}
        self._pods: dict[str, tuple[PodView, ...]] = {}
        self._deleted_pods: dict[str, PodView] = {}
        self._replaced: dict[str, frozenset[str]] = {}
        self._handlers: dict[str, tuple[JobHandler, ...]] = {}
        self._listener: JobListener | None = None

    def set_listener(self, listener: JobListener) -> None:
        """Call ``listener`` for every Job from now on."""
        self._listener = listener

    def jobs(self) -> Collection[JobView]:
        """All Jobs that exist."""
        return self._jobs.values()

    def job(self, name: str) -> JobView | None:
        """The Job of this name, if it exists."""
        return self._jobs.get(name)

    def pods(self, name: str, uid: str) -> tuple[PodView, ...]:
        """The Pods of the Job ``name`` with this UID.

        Where none exists, the last Pod that had ended and was deleted while the Job had a handler:
        it knows how the task ended.
        """
        existing = tuple(pod for pod in self._pods.get(name, ()) if pod.job_uid in (None, uid))
        deleted = self._deleted_pods.get(name)
        return existing or ((deleted,) if deleted is not None and deleted.job_uid in (None, uid) else ())

    def replaced(self, name: str, uid: str) -> int:
        """How many deleted Pods of the Job may have started work; what ``pods`` returns is left out.

        They are counted while the Job has a handler.
        """
        shown = {_mark(pod) for pod in self.pods(name, uid)}
        of_job = (mark for mark in self._replaced.get(name, ()) if mark.endswith(f"/{uid}"))
        return sum(mark not in shown for mark in of_job)

    def add_handler(self, name: str, handler: JobHandler) -> None:
        """Call ``handler`` for the Job ``name`` from now on."""
        self._handlers[name] = (*self._handlers.get(name, ()), handler)

    def remove_handler(self, name: str, handler: JobHandler) -> None:
        """Call ``handler`` no more; harmless where it is none of the Job's."""
        rest = tuple(other for other in self._handlers.get(name, ()) if other is not handler)
        if rest:
            self._handlers[name] = rest
        else:
            self._handlers.pop(name, None)
            self._deleted_pods.pop(name, None)
            self._replaced.pop(name, None)

    def has_handler(self, name: str) -> bool:
        """Whether the Job ``name`` has a handler."""
        return name in self._handlers

    def handlers(self) -> Iterator[tuple[str, JobHandler]]:
        """Yield Job name and handler of every handler."""
        for name, handlers in self._handlers.items():
            for handler in handlers:
                yield name, handler

    def on_job_change(self, change: Change[JobView]) -> None:
        """Take a change of a Job."""
        job = change.object
        name = job.metadata.name
        before = self._jobs.get(name)
        if change.deleted:
            self._jobs.pop(name, None)
        else:
            self._jobs[name] = job
        deleting = change.deleted or job.metadata.deletion_timestamp is not None
        if deleting or before is None or _has_changed(before, job):
            for handler in self._handlers.get(name, ()):
                if handler.uid == job.metadata.uid:
                    if deleting:
                        handler.on_delete(job)
                    else:
                        handler.on_update()
        if self._listener is not None:
            self._listener.on_job_change(change)

    def on_pod_change(self, change: Change[PodView]) -> None:
        """Take a change of a Pod; one without the Job controller's label is ignored."""
        pod = change.object
        name = pod.job_name
        if name is None:
            return
        known = self._pods.get(name, ())
        before = next((other for other in known if other.metadata.uid == pod.metadata.uid), None)
        if before is not None:
            pod = _asked_first(before, pod)
        others = tuple(other for other in known if other is not before)
        pods = others if change.deleted else (*others, pod)
        if pods:
            self._pods[name] = pods
        else:
            self._pods.pop(name, None)
        if change.deleted and name in self._handlers:
            if pod.has_ended:
                self._deleted_pods[name] = pod
            # A Pod that is gone from its node without an end may have started after the node's last report.
            if pod.has_started or (pod.node_name and not pod.has_ended):
                self._replaced[name] = self._replaced.get(name, frozenset()) | {_mark(pod)}
        if change.deleted or before is None or before.spec != pod.spec or _has_changed(before, pod):
            for handler in self._handlers.get(name, ()):
                handler.on_update()

    def on_list(self, began: float) -> None:
        """Take the end of a list that began at ``began`` (monotonic seconds).

        A Job that was created before and is not in the list was deleted while there was no watch.
        """
        for name, handler in list(self.handlers()):
            job = self._jobs.get(name)
            if handler.created_at < began and (job is None or job.metadata.uid != handler.uid):
                handler.on_delete(None)
        if self._listener is not None:
            self._listener.on_relist()


def _mark(pod: PodView) -> str:
    """Identify a Pod and its Job."""
    return f"{pod.identity}/{pod.job_uid}"


def _asked_first(before: PodView, pod: PodView) -> PodView:
    """Keep when the Pod was first asked to end: its removal by the node sets a later time, and no grace."""
    asked = before.metadata
    if asked.deletion_timestamp is None:
        return pod
    metadata = replace(
        pod.metadata,
        deletion_timestamp=asked.deletion_timestamp,
        deletion_grace_period_seconds=asked.deletion_grace_period_seconds,
    )
    return replace(pod, metadata=metadata)


def _has_changed(before: JobView | PodView, after: JobView | PodView) -> bool:
    """Whether status or metadata have changed as far as they are read. Many events are of counters only."""
    metadata = replace(before.metadata, resource_version=after.metadata.resource_version)
    return before.status != after.status or metadata != after.metadata
