"""What is read of a task's Job for a person who asks about it, and which Job is meant. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from oz_agent_worker.errors import OzError, UsageError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.api.rest import ItemList, Resource
from oz_agent_worker.worker.backends.kubernetes.objects import JobView

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

#: The most candidates that an error lists.
MAX_LISTED = 10

#: Of a generated name: the characters at its end that are its own, and the most before them.
_RANDOM = 5
_LONGEST_BASE = 58


class NoSuchTaskError(OzError):
    """No Job in the namespace is of this task."""


class AmbiguousTaskError(UsageError):
    """A prefix is that of several tasks."""


class TaskJob(JobView, frozen=True):
    """A task's Job. Jobs whose annotations somebody removed keep their names as IDs."""

    @property
    def key(self) -> ExecutionKey:
        """The execution that the Job is of."""
        return self.metadata.key or ExecutionKey(self.metadata.name, self.metadata.name)

    @property
    def worker(self) -> str:
        """The worker's ID, as far as a label can hold it; empty where it is not noted."""
        return (self.metadata.labels.worker_id if self.metadata.labels else None) or ""

    @property
    def owner(self) -> str:
        """The worker process that created the Job (``takeover.instance``); empty where it is not noted."""
        return (self.metadata.annotations.owner if self.metadata.annotations else None) or ""


TASK_JOBS = Resource(
    "/apis/batch/v1", "jobs", msgspec.json.Decoder(TaskJob), msgspec.json.Decoder(ItemList[TaskJob])
)


def matching_jobs(jobs: Iterable[TaskJob], text: str) -> list[TaskJob]:
    """The Jobs that ``text`` means, the newest first: several where a run was executed several times.

    It is a task ID, an execution ID, the name of a Job or of one of its Pods, or the
    beginning of one of them that is no other task's; case does not matter.

    Raises:
        NoSuchTaskError: it is nothing of this.
        AmbiguousTaskError: it is the beginning of several; the text lists them.
    """
    standing = sorted(jobs, key=lambda job: job.metadata.creation_timestamp or "", reverse=True)
    wanted = text.lower()
    for names in (_exact, _prefixes):
        found = [job for job in standing if names(job, wanted)]
        tasks = {job.key.task_id for job in found}
        if len(tasks) > 1:
            raise ambiguous(text, tasks)
        if found:
            return found
    raise NoSuchTaskError(f"no Job of a task {text!r}")


def _exact(job: TaskJob, text: str) -> bool:
    name = job.metadata.name
    return text in {name, job.key.task_id.lower(), job.key.execution_id.lower()} or is_pod_name(text, name)


def _prefixes(job: TaskJob, text: str) -> bool:
    names = (job.metadata.name, job.key.task_id.lower(), job.key.execution_id.lower())
    return bool(text) and any(name.startswith(text) for name in names)


def is_pod_name(text: str, job: str) -> bool:
    """Whether a Pod of the Job ``job`` may have this name."""
    return pod_base(text) == pod_prefix(job)


def pod_prefix(job: str) -> str:
    """What the names of a Job's Pods have in common.

    It is the Job's and a hyphen, cut to 58 characters; 5 more follow (apiserver, names.SimpleNameGenerator).
    """
    return f"{job}-"[:_LONGEST_BASE]


def pod_base(pod: str) -> str:
    """A Pod's name without what is its own: the ``pod_prefix`` of its Job."""
    return pod[:-_RANDOM]


def ambiguous(text: str, tasks: Iterable[str]) -> AmbiguousTaskError:
    """The error of a text that may mean any of ``tasks``."""
    named = set(tasks)
    return AmbiguousTaskError(f"{text!r} is the beginning of {len(named)} tasks:\n{_listed(named)}")


def _listed(tasks: Iterable[str]) -> str:
    ordered: Sequence[str] = sorted(tasks)
    more = len(ordered) - MAX_LISTED
    lines = [f"  {task}" for task in ordered[:MAX_LISTED]]
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)
