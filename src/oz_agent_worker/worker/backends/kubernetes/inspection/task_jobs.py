"""The Jobs of tasks as people look at them, and which of them a text means. Pure."""

from collections.abc import Iterable

import msgspec

from oz_agent_worker.errors import OzError, UsageError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.api.rest import ItemList, Resource
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.status.job_state import job_order

__all__ = [
    "TASK_JOBS",
    "AmbiguousTaskError",
    "NoSuchTaskError",
    "TaskJob",
    "ambiguous",
    "is_pod_name",
    "matching_jobs",
    "pod_base",
    "pod_prefix",
]

#: The most tasks that an error lists.
MAX_LISTED = 10

#: A generated name has this many random characters at its end, and at most so many before them.
_RANDOM = 5
_LONGEST_BASE = 58


class NoSuchTaskError(OzError):
    """The namespace has no Job of this task."""


class AmbiguousTaskError(UsageError):
    """A text is the beginning of several tasks' names."""


class TaskJob(JobView, frozen=True):
    """A task's Job. If somebody removed its annotations, its name serves as its IDs."""

    @property
    def key(self) -> ExecutionKey:
        """The execution that the Job runs."""
        return self.metadata.key or ExecutionKey(self.metadata.name, self.metadata.name)

    @property
    def worker(self) -> str:
        """The worker's ID, as a label holds it; empty if it is not noted."""
        return (self.metadata.labels.worker_id if self.metadata.labels else None) or ""

    @property
    def owner(self) -> str:
        """The worker process that created the Job (``adoption.instance``); empty if it is not noted."""
        return (self.metadata.annotations.owner if self.metadata.annotations else None) or ""


TASK_JOBS = Resource(
    "/apis/batch/v1", "jobs", msgspec.json.Decoder(TaskJob), msgspec.json.Decoder(ItemList[TaskJob])
)


def matching_jobs(jobs: Iterable[TaskJob], text: str) -> list[TaskJob]:
    """Return the Jobs that ``text`` means, the newest first: one for each execution of a run.

    ``text`` is a task ID, an execution ID, the name of a Job or of one of its Pods, or the beginning
    of one of these that no other task shares; case does not matter.

    Raises:
        NoSuchTaskError: it means no Job.
        AmbiguousTaskError: it is the beginning of several tasks' names; the error lists them.
    """
    newest_first = sorted(jobs, key=job_order, reverse=True)
    wanted = text.lower()
    for matches in (_matches_exactly, _matches_beginning):
        found = [job for job in newest_first if matches(job, wanted)]
        tasks = {job.key.task_id for job in found}
        if len(tasks) > 1:
            raise ambiguous(text, tasks)
        if found:
            return found
    raise NoSuchTaskError(f"no Job of a task {text!r}")


def _names(job: TaskJob) -> tuple[str, ...]:
    return (job.metadata.name, job.key.task_id.lower(), job.key.execution_id.lower())


def _matches_exactly(job: TaskJob, text: str) -> bool:
    return text in _names(job) or is_pod_name(text, job.metadata.name)


def _matches_beginning(job: TaskJob, text: str) -> bool:
    return bool(text) and any(name.startswith(text) for name in _names(job))


def is_pod_name(text: str, job: str) -> bool:
    """Whether a Pod of the Job ``job`` may have this name."""
    return pod_base(text) == pod_prefix(job)


def pod_prefix(job: str) -> str:
    """Return what the names of a Job's Pods begin with.

    It is the Job's name and a hyphen, cut to 58 characters; 5 random ones follow (apiserver,
    names.SimpleNameGenerator).
    """
    return f"{job}-"[:_LONGEST_BASE]


def pod_base(pod: str) -> str:
    """Return a Pod's name without its random end: the ``pod_prefix`` of its Job."""
    return pod[:-_RANDOM]


def ambiguous(text: str, tasks: Iterable[str]) -> AmbiguousTaskError:
    """Make the error for a text that may mean any of ``tasks``."""
    ordered = sorted(set(tasks))
    lines = [f"{text!r} is the beginning of {len(ordered)} tasks:"]
    lines += [f"  {task}" for task in ordered[:MAX_LISTED]]
    if len(ordered) > MAX_LISTED:
        lines.append(f"  and {len(ordered) - MAX_LISTED} more")
    return AmbiguousTaskError("\n".join(lines))
