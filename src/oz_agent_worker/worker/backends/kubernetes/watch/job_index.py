"""Who follows which Job: each change is told to the executions it concerns, and to no other."""

from collections.abc import Collection, Iterator
from typing import Protocol

from msgspec.structs import replace

from oz_agent_worker.worker.backends.kubernetes.objects import JobView, ObjectMeta, PodView

from .store import Change

__all__ = ["Follower", "JobIndex", "JobObserver"]


class Follower(Protocol):
    """An execution in flight, as the index sees it."""

    uid: str
    stands_since: float
    """When the API server had accepted the Job, in monotonic seconds."""

    def touched(self) -> None:
        """The Job or one of its Pods is not as it was."""
        ...

    def vanished(self, last: JobView | None) -> None:
        """The Job is gone or going; ``last`` is its last known state."""
        ...


class JobObserver(Protocol):
    """One that is told of every Job, whoever follows it."""

    def job_changed(self, change: Change[JobView]) -> None:
        """A Job came, changed or went; the followers know already."""
        ...

    def jobs_listed(self) -> None:
        """All that stands was told."""
        ...


class JobIndex:
    """Jobs by name, their Pods, and their followers.

    What a change costs does not grow with the number of any of them.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, JobView] = {}
        self._pods: dict[str, tuple[PodView, ...]] = {}
        self._departed: dict[str, PodView] = {}
        self._followers: dict[str, tuple[Follower, ...]] = {}
        self._observer: JobObserver | None = None

    def observe(self, observer: JobObserver) -> None:
        """Tell ``observer`` of all Jobs from here on."""
        self._observer = observer

    def jobs(self) -> Collection[JobView]:
        """All Jobs that stand."""
        return self._jobs.values()

    def job(self, name: str) -> JobView | None:
        """The Job of this name that stands."""
        return self._jobs.get(name)

    def pods(self, name: str, uid: str) -> tuple[PodView, ...]:
        """The Pods of the Job ``name`` whose identity is ``uid``, none of a namesake before it.

        Where none stands, the one that ended and was removed before its Job was seen to end.
        """
        standing = tuple(pod for pod in self._pods.get(name, ()) if pod.job_uid in (None, uid))
        departed = self._departed.get(name)
        return standing or ((departed,) if departed is not None and departed.job_uid in (None, uid) else ())

    def follow(self, name: str, follower: Follower) -> None:
        """Tell ``follower`` of the Job ``name`` from here on."""
        self._followers[name] = (*self._followers.get(name, ()), follower)

    def unfollow(self, name: str, follower: Follower) -> None:
        """Tell ``follower`` no more; harmless where it does not follow."""
        rest = tuple(f for f in self._followers.get(name, ()) if f is not follower)
        if rest:
            self._followers[name] = rest
        else:
            self._followers.pop(name, None)
            self._departed.pop(name, None)

    def is_followed(self, name: str) -> bool:
        """Whether somebody follows the Job ``name``."""
        return name in self._followers

    def in_flight(self) -> Iterator[tuple[str, Follower]]:
        """Yield what is followed: Job name and follower."""
        for name, followers in self._followers.items():
            for follower in followers:
                yield name, follower

    def job_changed(self, change: Change[JobView]) -> None:
        """Take a change of a Job."""
        job = change.object
        name = job.metadata.name
        before = self._jobs.get(name)
        if change.deleted:
            self._jobs.pop(name, None)
        else:
            self._jobs[name] = job
        going = change.deleted or job.metadata.deletion_timestamp is not None
        if going or before is None or _job_moved(before, job):
            for follower in self._followers.get(name, ()):
                if follower.uid == job.metadata.uid:
                    if going:
                        follower.vanished(job)
                    else:
                        follower.touched()
        if self._observer is not None:
            self._observer.job_changed(change)

    def pod_changed(self, change: Change[PodView]) -> None:
        """Take a change of a Pod; one without the Job controller's label concerns nobody."""
        pod = change.object
        name = pod.job_name
        if name is None:
            return
        known = self._pods.get(name, ())
        before = next((p for p in known if p.metadata.uid == pod.metadata.uid), None)
        others = tuple(p for p in known if p is not before)
        pods = others if change.deleted else (*others, pod)
        if pods:
            self._pods[name] = pods
        else:
            self._pods.pop(name, None)
        if change.deleted and pod.has_ended and name in self._followers:
            self._departed[name] = pod
        if change.deleted or before is None or _pod_moved(before, pod):
            for follower in self._followers.get(name, ()):
                follower.touched()

    def jobs_listed(self, began: float) -> None:
        """Find the executions whose Job stood before a list began (monotonic) and is not in it."""
        for name, follower in list(self.in_flight()):
            job = self._jobs.get(name)
            if follower.stands_since < began and (job is None or job.metadata.uid != follower.uid):
                follower.vanished(None)
        if self._observer is not None:
            self._observer.jobs_listed()


def _job_moved(before: JobView, after: JobView) -> bool:
    """Whether a Job has changed in what is observed of it. Many events are of counters and finalizers."""
    return before.status != after.status or _is_other(before.metadata, after.metadata)


def _pod_moved(before: PodView, after: PodView) -> bool:
    """Whether a Pod has changed in what is observed of it."""
    return (
        before.status != after.status
        or before.spec != after.spec
        or _is_other(before.metadata, after.metadata)
    )


def _is_other(before: ObjectMeta, after: ObjectMeta) -> bool:
    """Whether more than the version has changed."""
    return after != replace(before, resource_version=after.resource_version)
