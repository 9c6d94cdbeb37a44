"""Reads from the cluster what is to be known of tasks: for people who ask, and for evidence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from oz_agent_worker.backends.kubernetes.api.api_errors import ApiError
from oz_agent_worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.backends.kubernetes.api.ownership import OwnedPod
from oz_agent_worker.backends.kubernetes.api.rest import PODS, ObjectT, Resource
from oz_agent_worker.backends.kubernetes.judgement.patience import ObservationPolicy
from oz_agent_worker.backends.kubernetes.manifests.naming import LABEL_EXECUTION_HASH, label_selector
from oz_agent_worker.backends.kubernetes.views import EventView, last_pod

from .explain import Facts
from .inspected import TASK_JOBS, NoSuchTaskError, TaskJob, chosen
from .taskstate import State, reason_of, state_of

__all__ = ["Inspector", "TaskRow", "pods_selector"]

PAGE = 500


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
        pods: dict[str, list[OwnedPod]] = {}
        for pod in await self._all(PODS, self._selector):
            pods.setdefault(pod.job_uid or "", []).append(pod)
        rows = [self._row(job, pods.get(job.metadata.uid or "", ())) for job in jobs]
        return sorted(rows, key=lambda row: (row.created or "", row.job))

    def _row(self, job: TaskJob, pods: Sequence[OwnedPod]) -> TaskRow:
        pod = last_pod(pods)
        return TaskRow(
            task_id=job.key.task_id,
            execution_id=job.key.execution_id,
            state=state_of(job, pods),
            reason=reason_of(job, pods, self._policy),
            created=job.metadata.creation_timestamp,
            pod=pod.metadata.name if pod else "",
            node=(pod.spec.node_name if pod and pod.spec else None) or "",
            worker=job.worker,
            job=job.metadata.name,
        )

    async def find(self, text: str) -> list[TaskJob]:
        """The Jobs that ``text`` means, the newest first (``inspected.chosen``).

        Raises:
            NoSuchTaskError: it means none; the text says why that may be.
            AmbiguousTaskError: it is the beginning of several tasks' names.
        """
        try:
            return chosen(await self._all(TASK_JOBS, self._selector), text)
        except NoSuchTaskError as error:
            raise NoSuchTaskError(f"{error}{self._why_not()}{await self._traces(text)}") from None

    def _why_not(self) -> str:
        of_worker = f" of worker {self._worker_id!r}" if self._worker_id else ""
        other = " Another worker's are found with --all-workers." if self._worker_id else ""
        return (
            f"{of_worker} is in namespace {self._namespace!r}: one that succeeded is deleted when its result"
            f" is delivered, one that failed after its TTL, and one in a queue has none yet.{other}"
        )

    async def _traces(self, text: str) -> str:
        """What events still tell of a Job that is gone; the API server keeps them for an hour."""
        try:
            events = await self._client.list_events(self._namespace, "involvedObject.kind=Job")
        except ApiError:
            return ""
        wanted = text.lower()
        about = [
            event
            for event in events
            if event.involved_object and wanted in (event.involved_object.name or "")
        ]
        lines = [f"\n  {event.reason}: {event.message}" for event in about[-5:]]
        return f"\nEvents of a Job with this name:{''.join(lines)}" if lines else ""

    async def facts(self, job: TaskJob) -> Facts:
        """All that an explanation of this Job needs."""
        pods = await self.pods_of(job)
        events: list[EventView] = []
        unread = ""
        try:
            for uid in (job.metadata.uid, *(pod.metadata.uid for pod in pods)):
                events += await self._client.list_events(self._namespace, f"involvedObject.uid={uid}")
        except ApiError as error:
            unread = f"could not be read: {error}"
        return Facts(
            job=job,
            pods=pods,
            events=tuple(events),
            now=datetime.now(UTC),
            policy=self._policy,
            unread=unread,
        )

    async def pods_of(self, job: TaskJob) -> tuple[OwnedPod, ...]:
        """The Pods of a Job, those of a namesake before it left out."""
        pods = await self._all(PODS, pods_selector(job.metadata.name))
        return tuple(pod for pod in pods if pod.job_uid in (None, job.metadata.uid))

    async def _all(self, resource: Resource[ObjectT], selector: str) -> Iterable[ObjectT]:
        """Read a whole list, page by page."""
        items: list[ObjectT] = []
        token: str | None = None
        while True:
            page = await self._client.list_page(
                resource, self._namespace, label_selector=selector, limit=PAGE, continue_token=token
            )
            items.extend(page.items or ())
            token = page.metadata.continue_token
            if not token:
                return items
