"""Reads tasks from the cluster, for the commands that show them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from oz_agent_worker.errors import UsageError
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError, NotFoundError
from oz_agent_worker.worker.backends.kubernetes.api.rest import PODS, ObjectT, Resource
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import LABEL_EXECUTION_HASH, label_selector
from oz_agent_worker.worker.backends.kubernetes.objects import PodView, last_pod
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .deleted_jobs import DeletedJob, find_deleted_jobs
from .event_history import events_for_list, task_events
from .explain import TaskSnapshot
from .task_jobs import TASK_JOBS, NoSuchTaskError, TaskJob, matching_jobs
from .task_state import State, reason_of, state_of

__all__ = ["Inspector", "TaskRow", "pods_selector"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task in a list of Jobs. ``created`` is RFC 3339; ``pod`` and ``node`` may be empty."""

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
    """Return the label selector of a Job's Pods; Pods of an earlier Job of the name match as well."""
    return f"job-name={job}"


class Inspector:
    """Reads the Jobs of tasks in one namespace; with ``worker_id``, only those of one worker.

    Every method raises ``ApiError`` if the API server cannot be asked or refuses.
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
        """Return all tasks that have a Job, the oldest first."""
        jobs = await self._all(TASK_JOBS, self._selector)
        pods: dict[str, list[PodView]] = {}
        for pod in await self._all(PODS, self._selector):
            pods.setdefault(pod.job_uid or "", []).append(pod)
        jobs_with_pods = [(job, pods.get(job.metadata.uid or "", [])) for job in jobs]
        events = await events_for_list(self._client, self._namespace, jobs_with_pods, self._policy)
        rows = [self._row(job, of_job, events.get(job.metadata.name, ())) for job, of_job in jobs_with_pods]
        return sorted(rows, key=lambda row: (row.created or "", row.job))

    def _row(self, job: TaskJob, pods: Sequence[PodView], events: Sequence[EventView]) -> TaskRow:
        pod = last_pod(pods)
        return TaskRow(
            task_id=job.key.task_id,
            execution_id=job.key.execution_id,
            state=state_of(job, pods, self._policy),
            reason=reason_of(job, pods, self._policy, events),
            created=job.metadata.creation_timestamp,
            pod=pod.metadata.name if pod else "",
            node=pod.node_name if pod else "",
            worker=job.worker,
            job=job.metadata.name,
        )

    async def find(self, text: str) -> list[TaskJob]:
        """Return the Jobs that ``text`` means, the newest first (``task_jobs.matching_jobs``).

        Raises:
            NoSuchTaskError: it means none; the error says why that may be.
            AmbiguousTaskError: it is the beginning of several tasks' names.
            UsageError: it is empty.
        """
        if not text.strip():
            raise UsageError("TASK is empty: name a task, an execution, a Job or a Pod")
        try:
            return matching_jobs(await self._all(TASK_JOBS, self._selector), text.strip())
        except NoSuchTaskError as error:
            of_worker = f" of worker {self._worker_id!r}" if self._worker_id else ""
            other = " Another worker's are found with --all-workers." if self._worker_id else ""
            raise NoSuchTaskError(
                f"{error}{of_worker} is in namespace {self._namespace!r}: one that succeeded is deleted when"
                " its result is delivered, one that was cancelled or cannot run at once, one that failed by"
                " itself after its TTL, and its events are kept for an hour; one in a queue has none"
                f" yet.{other}"
            ) from None

    async def find_deleted(self, text: str) -> DeletedJob | None:
        """Return the newest deleted Job that ``text`` means, from its events.

        ``None`` if there are no events, if they cannot be read, or if the Job exists and is another
        worker's.

        Raises:
            AmbiguousTaskError: it is the beginning of several tasks' names.
        """
        events: list[EventView] = []
        try:
            for kind in ("Job", "Pod"):
                events += await self._client.list_events(self._namespace, f"involvedObject.kind={kind}")
            job = next(iter(find_deleted_jobs(events, text.strip())), None)
            return None if job is None or await self._exists(job) else job
        except ApiError as error:
            _logger.debug("Events cannot be read: %s", error)
            return None

    async def _exists(self, job: DeletedJob) -> bool:
        try:
            await self._client.get_job(self._namespace, job.name)
        except NotFoundError:
            if job.has_full_name:
                return False
            others = await self._all(TASK_JOBS, LABEL_EXECUTION_HASH)
            return any(job.may_be(other.metadata.name) for other in others)
        return True

    async def snapshot(self, job: TaskJob) -> TaskSnapshot:
        """Read what an explanation of this Job needs."""
        found = await self._all(PODS, pods_selector(job.metadata.name))
        # A Job of the same name that was deleted had Pods of the same labels.
        pods = tuple(pod for pod in found if pod.job_uid in (None, job.metadata.uid))
        events: tuple[EventView, ...] = ()
        unread = ""
        try:
            events = await task_events(self._client, self._namespace, job, pods)
        except ApiError as error:
            unread = f"could not be read: {error}"
        now = datetime.now(UTC)
        return TaskSnapshot(job=job, pods=pods, events=events, now=now, policy=self._policy, unread=unread)

    async def _all(self, resource: Resource[ObjectT], selector: str) -> list[ObjectT]:
        return await self._client.list_all(resource, self._namespace, label_selector=selector)
