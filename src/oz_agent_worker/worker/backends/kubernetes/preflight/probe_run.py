"""Runs the preflight Job: creates it, follows it to its end, and deletes it in every case."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
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
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import BEGINNING
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import log_container
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.admission import explain_refusal, is_temporary_refusal
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import Observation, evaluate
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, event_facts, unreadable
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .pod_diagnosis import (
    explain_missing_pod,
    explain_outcome,
    explain_standstill,
    is_unschedulable,
    scheduler_words,
)
from .probe_job import build_preflight_job

__all__ = ["ProbeResult", "ProbeRun", "ProbeRunSettings", "Stage"]

_logger = logging.getLogger(__name__)

#: How many seconds later than the worker the cluster ends the Job by itself.
_SLACK: Final = 60
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
#: Seconds between two reads of the Pod's events.
_EVENTS_EVERY: Final = 1.0
#: How many bytes of a failed container's log are quoted.
_LOG: Final = 400
_DELETION: Final = RetryPolicy(budget=10.0)


class Stage(IntEnum):
    """How far the preflight Job has come."""

    NOTHING = 0
    ADMITTED = 1
    SCHEDULED = 2
    PULLED = 3
    ENDED = 4


#: The stage at which a failure stops the Job; any other failure comes at the end.
_STAGE_OF: Final[Mapping[FailureReason | None, Stage]] = {
    FailureReason.UNSCHEDULABLE: Stage.SCHEDULED,
    FailureReason.IMAGE_PULL: Stage.PULLED,
    FailureReason.INVALID_IMAGE: Stage.PULLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRunSettings:
    """Times in seconds: until the Pod exists, and for the whole Job except waiting for a node."""

    admission: float = 30.0
    whole: float = 300.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How far the Job came, at which stage it stopped, and why.

    ``pending`` is the scheduler's message about a Pod that waits for a node, if the configuration makes
    that a warning.
    """

    reached: Stage
    stopped_at: Stage | None = None
    finding: Finding | None = None
    pending: str | None = None


def _stage(job: JobView, pods: Sequence[PodView]) -> Stage:
    if job.condition("Complete") is not None:
        return Stage.ENDED
    if not pods:
        return Stage.NOTHING
    if any(container.has_started for container in pods[0].container_statuses):
        return Stage.PULLED
    return Stage.SCHEDULED if pods[0].node_name else Stage.ADMITTED


class ProbeRun:
    """Runs one preflight Job. ``clock`` gives seconds and never runs backwards."""

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
        """Create the Job, follow it, and delete it, even if this is cancelled.

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
            return self._stopped(Stage.ADMITTED, Finding(what, advice="correct the config file"))
        name: str = manifest["metadata"]["name"]
        refusal: Finding | None = None
        try:
            refusal = await self._create(manifest)
            if refusal is not None:
                return self._stopped(Stage.ADMITTED, refusal)
            return await self._follow(name, manifest)
        finally:
            if refusal is None:
                await self._delete(name)

    async def _create(self, manifest: Mapping[str, Any]) -> Finding | None:
        """Create the Job; return why it is refused."""
        try:
            await self._client.create_job(self._config.namespace, manifest)
        except AlreadyExistsError:
            # The name is unique, so it was created by an attempt whose answer was lost.
            return None
        except ApiStatusError as error:
            if error.transient or isinstance(error, UnauthorizedError):
                raise
            return explain_refusal(error.message, self._config)
        return None

    async def _follow(self, name: str, manifest: Mapping[str, Any]) -> ProbeResult:
        began, pause, namespace = self._clock(), _SHORTEST_PAUSE, self._config.namespace
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            try:
                job, page = await asyncio.gather(
                    self._client.get_job(namespace, name),
                    self._client.list_page(PODS, namespace, label_selector=f"job-name={name}"),
                )
            except NotFoundError:
                return self._stopped(Stage.ENDED, Finding("the preflight Job was deleted by somebody else"))
            pods, elapsed = tuple(page.items or ()), self._clock() - began
            self._reached = max(self._reached, _stage(job, pods))
            has_ended = job.condition("Complete") is not None or job.condition("Failed") is not None
            if pods or has_ended:
                result = await self._evaluate(job, pods, manifest, elapsed)
            else:
                result = await self._without_pod(job, elapsed)
            if result is not None:
                return result

    async def _evaluate(
        self, job: JobView, pods: tuple[PodView, ...], manifest: Mapping[str, Any], elapsed: float
    ) -> ProbeResult | None:
        now = self._clock()
        found = evaluate(Observation(job, pods, self._facts), self._first_seen, now, self._policy)
        self._first_seen = {key: self._first_seen.get(key, now) for key in found.problems}
        if found.outcome is not None:
            return await self._ended(pods, manifest, found.outcome)
        if found.read_events_of and now - self._facts.read_at >= _EVENTS_EVERY:
            events = await self._events(found.read_events_of)
            self._facts = (
                unreadable(found.read_events_of)
                if events is None
                else event_facts(found.read_events_of, events, now)
            )
            return await self._evaluate(job, pods, manifest, elapsed)
        # unschedulable_timeout limits the wait for a node, unless it is 0: no limit.
        waits = self._policy.unschedulable_timeout > 0 and is_unschedulable(pods)
        if waits or elapsed < self._settings.whole:
            return None
        if is_unschedulable(pods) and self._config.preflight_unschedulable == "warn":
            return ProbeResult(self._reached, Stage.SCHEDULED, pending=scheduler_words(pods))
        events = await self._events(pods[0].identity)
        stage = Stage(min(self._reached + 1, Stage.ENDED))
        return self._stopped(stage, explain_standstill(self._settings.whole, pods, events or ()))

    async def _ended(
        self, pods: Sequence[PodView], manifest: Mapping[str, Any], outcome: Outcome
    ) -> ProbeResult:
        if outcome.result is TaskResult.SUCCEEDED:
            return ProbeResult(Stage.ENDED)
        if outcome.reason is FailureReason.UNSCHEDULABLE and self._config.preflight_unschedulable == "warn":
            return ProbeResult(self._reached, Stage.SCHEDULED, pending=scheduler_words(pods, self._facts))
        log = await self._log(pods[0]) if pods and outcome.exit_code is not None else ""
        finding = explain_outcome(outcome, pods, manifest, self._config, facts=self._facts, log=log)
        return self._stopped(_STAGE_OF.get(outcome.reason, Stage.ENDED), finding)

    async def _log(self, pod: PodView) -> str:
        """Return the end of the log of the container that failed; empty if it cannot be read."""
        container = log_container(pod, TASK_CONTAINER)
        if container is None:
            return ""
        try:
            tail = await self._client.read_log(
                self._config.namespace, pod.metadata.name, container, limit_bytes=_LOG, after=BEGINNING
            )
        except ApiError:
            return ""
        return " ".join(b"".join(tail.chunks()).decode(errors="replace").split())

    async def _without_pod(self, job: JobView, elapsed: float) -> ProbeResult | None:
        """Evaluate a Job without a Pod: events say why its Pod is refused (Job controller: FailedCreate)."""
        events = await self._events(job.metadata.uid or "")
        messages = [event.message or "" for event in events or () if event.reason == "FailedCreate"]
        late = elapsed >= self._settings.admission
        if messages and (late or not is_temporary_refusal(messages[-1])):
            return self._stopped(Stage.ADMITTED, explain_refusal(messages[-1], self._config))
        if not late:
            return None
        suspended = job.condition("Suspended")
        why = (suspended.message if suspended else None) or ""
        return self._stopped(Stage.ADMITTED, explain_missing_pod(elapsed, why))

    async def _events(self, uid: str) -> list[EventView] | None:
        """Return the events about an object; ``None`` if they may not be read."""
        try:
            return await self._client.list_events_about(self._config.namespace, uid)
        except ForbiddenError:
            return None

    def _stopped(self, stage: Stage, finding: Finding) -> ProbeResult:
        return ProbeResult(self._reached, stage, finding)

    async def _delete(self, name: str) -> None:
        """Delete the Job, best effort; a cancelled worker waits for it too."""
        deleting = asyncio.ensure_future(
            self._client.delete_job(self._config.namespace, name, policy=_DELETION)
        )
        try:
            await asyncio.shield(asyncio.wait({deleting}))
        except asyncio.CancelledError:
            await asyncio.wait({deleting}, timeout=_DELETION.budget)
            raise
        finally:
            error = deleting.exception() if deleting.done() else None
            if error is not None:
                _logger.warning("The preflight Job %s is left behind, and ends by itself: %s", name, error)
