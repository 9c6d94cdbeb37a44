"""Reads from the cluster what is to be known of tasks: for people who ask, and for evidence."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from oz_agent_worker.errors import UsageError
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError, NotFoundError
from oz_agent_worker.worker.backends.kubernetes.api.rest import PODS, ObjectT, Resource
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import LABEL_EXECUTION_HASH, label_selector
from oz_agent_worker.worker.backends.kubernetes.objects import EventView, PodView, last_pod
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .deleted_jobs import DeletedJob, find_deleted_jobs
from .event_history import task_events, telling_events
from .explain import TaskSnapshot
from .task_jobs import TASK_JOBS, NoSuchTaskError, TaskJob, matching_jobs
from .task_state import State, reason_of, state_of

__all__ = ["Inspector", "TaskRow", "pods_selector"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task's Job in a list. ``created`` is RFC 3339; ``pod`` and ``node`` may be empty."""

    task_id: str
    execution_id: str
    state: State
    reason: str
    created: str | None
    pod: str
    node: str
    worker: str
    job: str


def pods_selector(job: str) -> str:
    """The label selector of a Job's Pods, and of those of namesakes before it."""
    return f"job-name={job}"


class Inspector:
    """Reads the Jobs of tasks in one namespace; with ``worker_id`` those of one worker alone.

    Every method raises ``ApiError`` where the API server cannot be asked or refuses.
    """

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        *,
        worker_id: str | None,
        policy: ObservationPolicy,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._worker_id = worker_id
        self._selector = label_selector(worker_id) if worker_id else LABEL_EXECUTION_HASH
        self._policy = policy

    async def tasks(self) -> list[TaskRow]:
        """All Jobs of tasks, the oldest first."""
        jobs = await self._all(TASK_JOBS, self._selector)
        pods: dict[str, list[PodView]] = {}
        for pod in await self._all(PODS, self._selector):
            pods.setdefault(pod.job_uid or "", []).append(pod)
        standing = [(job, pods.get(job.metadata.uid or "", [])) for job in jobs]
        events = await telling_events(self._client, self._namespace, standing, self._policy)
        rows = [self._row(job, of_job, events.get(job.metadata.name, ())) for job, of_job in standing]
        return sorted(rows, key=lambda row: (row.created or "", row.job))

    def _row(self, job: TaskJob, pods: Sequence[PodView], events: Sequence[EventView]) -> TaskRow:
        pod = last_pod(pods)
        return TaskRow(
            task_id=job.key.task_id,
            execution_id=job.key.execution_id,
            state=state_of(job, pods),
            reason=reason_of(job, pods, self._policy, events),
            created=job.metadata.creation_timestamp,
            pod=pod.metadata.name if pod else "",
            node=pod.node_name if pod else "",
            worker=job.worker,
            job=job.metadata.name,
        )

    async def find(self, text: str) -> list[TaskJob]:
        """The Jobs that ``text`` means, the newest first (``inspected.matching_jobs``).

        Raises:
            NoSuchTaskError: it means none; the text says why that may be.
            AmbiguousTaskError: it is the beginning of several tasks' names.
            UsageError: it is empty.
        """
        if not text.strip():
            raise UsageError("TASK is empty: name a task, an execution, a Job or a Pod")
        try:
            return matching_jobs(await self._all(TASK_JOBS, self._selector), text.strip())
        except NoSuchTaskError as error:
            raise NoSuchTaskError(f"{error}{self._why_not()}") from None

    def _why_not(self) -> str:
        of_worker = f" of worker {self._worker_id!r}" if self._worker_id else ""
        other = " Another worker's are found with --all-workers." if self._worker_id else ""
        return (
            f"{of_worker} is in namespace {self._namespace!r}: one that succeeded is deleted when its"
            " result is delivered, one that was cancelled or cannot run at once, one that failed by itself"
            f" after its TTL, and events tell of it for an hour; one in a queue has none yet.{other}"
        )

    async def trace(self, text: str) -> DeletedJob | None:
        """What events tell of a task whose Job is gone, the newest of those that ``text`` means.

        ``None`` where they tell nothing, or cannot be read, or the Job stands and is another
        worker's.

        Raises:
            AmbiguousTaskError: it is the beginning of several tasks' names.
        """
        events: list[EventView] = []
        try:
            for kind in ("Job", "Pod"):
                events += await self._client.list_events(self._namespace, f"involvedObject.kind={kind}")
            trace = next(iter(find_deleted_jobs(events, text.strip())), None)
            return None if trace is None or await self._stands(trace) else trace
        except ApiError as error:
            _logger.debug("Events cannot be read: %s", error)
            return None

    async def _stands(self, trace: DeletedJob) -> bool:
        try:
            await self._client.get_job(self._namespace, trace.job)
        except NotFoundError:
            if trace.names_job:
                return False
            jobs = await self._all(TASK_JOBS, LABEL_EXECUTION_HASH)
            return any(trace.may_be_of(job.metadata.name) for job in jobs)
        return True

    async def facts(self, job: TaskJob) -> TaskSnapshot:
        """All that an explanation of this Job needs."""
        pods = await self.pods_of(job)
        events: tuple[EventView, ...] = ()
        unread = ""
        try:
            events = await task_events(self._client, self._namespace, job, pods)
        except ApiError as error:
            unread = f"could not be read: {error}"
        return TaskSnapshot(
            job=job,
            pods=pods,
            events=events,
            now=datetime.now(UTC),
            policy=self._policy,
            unread=unread,
        )

    async def pods_of(self, job: TaskJob) -> tuple[PodView, ...]:
        """The Pods of a Job, those of a namesake before it left out."""
        pods = await self._all(PODS, pods_selector(job.metadata.name))
        return tuple(pod for pod in pods if pod.job_uid in (None, job.metadata.uid))

    async def _all(self, resource: Resource[ObjectT], selector: str) -> list[ObjectT]:
        return await self._client.list_all(resource, self._namespace, label_selector=selector)
