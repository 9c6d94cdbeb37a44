"""The preflight Job: created, followed to its end, deleted in every case."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    AlreadyExistsError,
    ApiError,
    ApiStatusError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import PODS
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import log_container
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import EventView, JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.admission import explain_refusal, is_temporary_refusal
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import (
    Observation,
    ObservationPolicy,
    evaluate,
)
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, event_facts, unreadable
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .pod_diagnosis import is_unschedulable, of_no_pod, of_outcome, of_standstill, scheduler_words
from .probe_job import build_preflight_job

__all__ = ["ProbeResult", "ProbeRun", "ProbeRunSettings", "Stage"]

_logger = logging.getLogger(__name__)

#: How much longer than the worker the cluster waits before it ends the Job by itself, in seconds.
_SLACK: Final = 60
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
#: Events tell what has happened; asked more often, they say the same.
_EVENTS_EVERY: Final = 1.0
#: How much of a failed container's log is told, in bytes.
_LOG: Final = 400
_DELETION: Final = RetryPolicy(budget=10.0)


class Stage(IntEnum):
    """How far the preflight Job has come."""

    NOTHING = 0
    ADMITTED = 1
    SCHEDULED = 2
    PULLED = 3
    ENDED = 4


#: The stage that a failure belongs to; any other is the end's.
_STAGE_OF: Final[Mapping[FailureReason | None, Stage]] = {
    FailureReason.UNSCHEDULABLE: Stage.SCHEDULED,
    FailureReason.IMAGE_PULL: Stage.PULLED,
    FailureReason.INVALID_IMAGE: Stage.PULLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRunSettings:
    """Times in seconds: for the Pod to be made, and for all that follows once it has a node."""

    admission: float = 30.0
    whole: float = 300.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the Job showed: how far it came, at which stage it stopped, and why.

    ``pending`` are the scheduler's words where the Pod waits for a node, and the
    configuration says that this is no failure.
    """

    reached: Stage
    stopped_at: Stage | None = None
    diagnosis: Finding | None = None
    pending: str | None = None


@dataclass(frozen=True, slots=True)
class _Sight:
    """The Job and its Pods, as last read."""

    job: JobView
    pods: tuple[PodView, ...]

    def has_ended(self) -> bool:
        return self.job.condition("Complete") is not None or self.job.condition("Failed") is not None

    def stage(self) -> Stage:
        if self.job.condition("Complete") is not None:
            return Stage.ENDED
        if not self.pods:
            return Stage.NOTHING
        pod = self.pods[0]
        if any(container.has_started for container in pod.container_statuses):
            return Stage.PULLED
        return Stage.SCHEDULED if pod.node_name else Stage.ADMITTED


class ProbeRun:
    """Runs one preflight Job. ``clock`` gives seconds, and never runs backwards."""

    def __init__(
        self,
        client: KubernetesClient,
        config: KubernetesConfig,
        *,
        worker_id: str,
        unique: str,
        policy: ObservationPolicy,
        settings: ProbeRunSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._config = config
        self._worker_id = worker_id
        self._unique = unique
        self._policy = policy
        self._settings = settings
        self._clock = clock
        self._first_seen: Mapping[str, float] = {}
        self._facts = NOT_READ
        self._reached = Stage.NOTHING

    async def run(self) -> ProbeResult:
        """Create the Job, follow it, and delete it whatever happens, a cancellation included.

        Raises:
            ApiError: the API server cannot be asked.
        """
        waits = max(self._policy.unschedulable_timeout, self._policy.scale_up_timeout)
        deadline = int(self._settings.whole + waits + _SLACK)
        try:
            manifest = build_preflight_job(
                self._config, worker_id=self._worker_id, unique=self._unique, deadline=deadline
            )
        except AssignmentError as error:
            what = f"no Job can be made of a task: {error}"
            return self._failed(Stage.ADMITTED, Finding(what, advice="correct the config file"))
        name: str = manifest["metadata"]["name"]
        refused: ProbeResult | None = None
        try:
            refused = await self._create(manifest)
            return refused or await self._follow(name, manifest)
        finally:
            if refused is None:
                await self._delete(name)

    async def _create(self, manifest: Mapping[str, Any]) -> ProbeResult | None:
        try:
            await self._client.create_job(self._config.namespace, manifest)
        except AlreadyExistsError:
            # The name is nobody else's: an answer to a first attempt was lost.
            return None
        except UnauthorizedError:
            raise
        except ApiStatusError as error:
            if error.transient:
                raise
            return self._failed(Stage.ADMITTED, explain_refusal(error.message, self._config))
        return None

    async def _follow(self, name: str, manifest: Mapping[str, Any]) -> ProbeResult:
        began = self._clock()
        pause = _SHORTEST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            try:
                sight = await self._look(name)
            except NotFoundError:
                return self._failed(Stage.ENDED, Finding("the preflight Job was deleted by somebody else"))
            self._reached = max(self._reached, sight.stage())
            result = await self._judge(sight, manifest, self._clock() - began)
            if result is not None:
                return result

    async def _look(self, name: str) -> _Sight:
        namespace = self._config.namespace
        job, page = await asyncio.gather(
            self._client.get_job(namespace, name),
            self._client.list_page(PODS, namespace, label_selector=f"job-name={name}"),
        )
        return _Sight(job, tuple(page.items or ()))

    async def _judge(self, sight: _Sight, manifest: Mapping[str, Any], elapsed: float) -> ProbeResult | None:
        if not sight.pods and not sight.has_ended():
            return await self._without_pod(sight, elapsed)
        now = self._clock()
        observation = Observation(sight.job, sight.pods, self._facts)
        verdict = evaluate(observation, self._first_seen, now, self._policy)
        self._first_seen = {key: self._first_seen.get(key, now) for key in verdict.problems}
        if verdict.outcome is not None:
            return await self._ended(sight, manifest, verdict.outcome)
        if verdict.ask and now - self._facts.read_at >= _EVENTS_EVERY:
            events = await self._events(verdict.ask)
            self._facts = unreadable(verdict.ask) if events is None else event_facts(verdict.ask, events, now)
            return await self._judge(sight, manifest, elapsed)
        # How long a Pod may wait for a node is a matter of its own, unless that has no end.
        waits = self._policy.unschedulable_timeout > 0 and is_unschedulable(sight.pods)
        if waits or elapsed < self._settings.whole:
            return None
        return await self._stands_still(sight)

    async def _stands_still(self, sight: _Sight) -> ProbeResult:
        if is_unschedulable(sight.pods) and self._config.preflight_unschedulable == "warn":
            return ProbeResult(self._reached, Stage.SCHEDULED, pending=scheduler_words(sight.pods))
        events = await self._events(sight.pods[0].identity)
        stage = Stage(min(self._reached + 1, Stage.ENDED))
        return self._failed(stage, of_standstill(self._settings.whole, sight.pods, events or ()))

    async def _ended(self, sight: _Sight, manifest: Mapping[str, Any], outcome: Outcome) -> ProbeResult:
        if outcome.result is TaskResult.SUCCEEDED:
            return ProbeResult(Stage.ENDED)
        if outcome.reason is FailureReason.UNSCHEDULABLE and self._config.preflight_unschedulable == "warn":
            return ProbeResult(
                self._reached, Stage.SCHEDULED, pending=scheduler_words(sight.pods, self._facts)
            )
        log = await self._log(sight.pods[0]) if sight.pods and outcome.exit_code is not None else ""
        stage = _STAGE_OF.get(outcome.reason, Stage.ENDED)
        diagnosis = of_outcome(outcome, sight.pods, manifest, self._config, facts=self._facts, log=log)
        return self._failed(stage, diagnosis)

    async def _log(self, pod: PodView) -> str:
        """The end of the log of the container that failed; empty where it cannot be read."""
        container = log_container(pod, TASK_CONTAINER)
        if container is None:
            return ""
        try:
            tail = await self._client.read_log(
                self._config.namespace, pod.metadata.name, container, limit_bytes=_LOG
            )
        except ApiError:
            return ""
        return " ".join(b"".join(tail.chunks()).decode(errors="replace").split())

    async def _without_pod(self, sight: _Sight, elapsed: float) -> ProbeResult | None:
        """Admission of the Pods is told by events of the Job (Job controller: FailedCreate)."""
        events = await self._events(sight.job.metadata.uid or "")
        words = [event.message or "" for event in events or () if event.reason == "FailedCreate"]
        late = elapsed >= self._settings.admission
        if words and (late or not is_temporary_refusal(words[-1])):
            return self._failed(Stage.ADMITTED, explain_refusal(words[-1], self._config))
        if not late:
            return None
        suspended = sight.job.condition("Suspended")
        return self._failed(
            Stage.ADMITTED, of_no_pod(elapsed, (suspended.message if suspended else None) or "")
        )

    async def _events(self, uid: str) -> list[EventView] | None:
        """What happened to an object; ``None`` where that may not be read."""
        try:
            return await self._client.list_events(self._config.namespace, f"involvedObject.uid={uid}")
        except ForbiddenError:
            return None

    def _failed(self, stage: Stage, diagnosis: Finding) -> ProbeResult:
        return ProbeResult(self._reached, stage, diagnosis)

    async def _delete(self, name: str) -> None:
        """Delete the Job, best effort; what interrupts the worker does not interrupt this."""
        deleting = asyncio.ensure_future(
            self._client.delete_job(self._config.namespace, name, policy=_DELETION)
        )
        try:
            await asyncio.shield(deleting)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait({deleting}, timeout=_DELETION.budget)
            _note_failure(name, *done)
            raise
        except ApiError:
            _note_failure(name, deleting)


def _note_failure(name: str, *deletions: asyncio.Future[None]) -> None:
    for deletion in deletions:
        error = deletion.exception()
        if error is not None:
            _logger.warning("The preflight Job %s is left behind, and ends by itself: %s", name, error)
