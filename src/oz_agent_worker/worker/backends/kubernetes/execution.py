"""One execution in the cluster: waits for its end, stops it, cleans up after it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, cancelled, failed
from oz_agent_worker.worker.backends.base import OutputSink
from oz_agent_worker.worker.events import EventKind, Notify, TaskEvent, ignore_event

from .adoption.decision import end_condition
from .api.client import KubernetesClient
from .api.errors import ApiError
from .api.retry import retry_until_decided
from .event_reader import EventReader
from .inspection.event_history import outcome_from_events
from .inspection.evidence import EvidenceKeeper
from .log_follower import Follows, TaskLog
from .objects import JobView, PodView, last_pod
from .status.evaluate import Evaluation, Observation, ObservationPolicy, evaluate
from .watch.job_index import JobIndex

__all__ = ["ExecutionContext", "KubernetesExecution"]

_logger = logging.getLogger(__name__)

_NO_PROBLEMS: Final[Mapping[str, float]] = {}
_DELETED: Final = "The Job was deleted by somebody else before it ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """What all executions of a backend share.

    ``clock`` gives seconds, and never runs backwards; ``follows`` are the logs that are copied
    while their tasks run; ``evidence`` keeps that of failed tasks, where it is wanted; ``settle``
    is for how many seconds the end of a Job may wait for what the watch of the Pods says of it;
    ``precedence`` for how many seconds another worker may come first to say why it deleted a
    Job that both had taken over.
    """

    client: KubernetesClient
    index: JobIndex
    namespace: str
    cleanup: bool
    policy: ObservationPolicy
    events: EventReader
    clock: Callable[[], float]
    follows: Follows
    evidence: EvidenceKeeper | None = None
    precedence: float
    settle: float = 2.0
    notify: Notify = ignore_event


class _Signal:
    """Wakes one waiter; set before the wait, the wait is over at once. Lighter than an Event by a deque."""

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float | None) -> None:
        """Return when set, or after ``timeout`` seconds."""
        if not self._set:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout, self.set) if timeout is not None else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        self._set = False


class KubernetesExecution:
    """A Job in flight. Keeps its name, its identity and little else: there may be thousands.

    A failure can be certain while the Job has not ended: an image that cannot be pulled, a
    Pod that fits nowhere. Such a Job is deleted before ``wait`` returns (where ``cleanup``
    is off it is left alone), because a Job that started after its failure was reported would
    run a task that may run elsewhere by then. Jobs that failed by themselves stay for their TTL.

    ``inherited``: another worker started it. Where that one is gone, several of its ID may
    follow the Job; the one that deletes it knows why.
    """

    __slots__ = (
        "_deleted",
        "_ended_at",
        "_first_seen",
        "_gone",
        "_gone_at",
        "_ground",
        "_inherited",
        "_last",
        "_log",
        "_name",
        "_outcome",
        "_output",
        "_signal",
        "_started",
        "_stopping",
        "_turn",
        "created_at",
        "uid",
    )

    def __init__(
        self,
        ground: ExecutionContext,
        name: str,
        uid: str,
        created_at: float,
        output: OutputSink,
        *,
        inherited: bool = False,
    ) -> None:
        self.uid = uid
        self.created_at = created_at
        self._inherited = inherited
        self._gone_at: float | None = None
        self._ground = ground
        self._name = name
        self._output = output
        self._outcome: Outcome | None = None
        self._turn = asyncio.Lock()
        self._signal = _Signal()
        self._first_seen = _NO_PROBLEMS
        self._started = False
        self._stopping: str | None = None
        self._deleted = False
        self._ended_at: float | None = None
        self._gone = False
        self._last: JobView | None = None
        self._log: TaskLog | None = None
        ground.index.add_handler(name, self)
        self._look_at_log()

    # The index tells ---------------------------------------------------------------------------

    def on_update(self) -> None:
        """The Job or one of its Pods is not as it was."""
        self._look_at_log()
        self._signal.set()

    def on_delete(self, last: JobView | None) -> None:
        """The Job is gone or going; ``last`` is its last known state."""
        self._gone = True
        self._last = last or self._last
        self._signal.set()

    # The worker asks ---------------------------------------------------------------------------

    async def wait(self) -> Outcome:
        """Return how the Job ended, its output written to the sink before.

        The class says which Jobs it deletes.
        """
        async with self._turn:
            if self._outcome is None:
                self._outcome = await self._conclude()
        return self._outcome

    async def stop(self, reason: str) -> None:
        """Delete the Job; the garbage collector ends its Pods, each with its grace period.

        While the API server is away it is asked again, for as long as there is something to end.

        Raises:
            ApiError: the API server refused; the Job goes on.
        """
        if self._stopping is not None or not (self._may_be_stopped() or self._vanished_without_an_end()):
            return
        self._stopping = reason
        try:
            await self._delete(self._may_be_stopped)
        except BaseException:
            self._stopping = None
            raise
        self._signal.set()

    async def release(self, outcome: Outcome) -> None:
        """Delete a successful Job, and one that should have ended and could not be reached; with cleanup on.

        Raises:
            ApiError: the Job may still stand; its TTL removes it.
        """
        self._ground.index.remove_handler(self._name, self)
        there = not (self._deleted or self._gone)
        unwanted = outcome.result is TaskResult.SUCCEEDED or self._is_active()
        if self._ground.cleanup and there and unwanted:
            await self._delete()

    # --------------------------------------------------------------------------------------------

    async def _conclude(self) -> Outcome:
        job = self._job()
        if job is not None and job.metadata.key is not None:
            self._ground.notify(TaskEvent(EventKind.JOB_NAMED, job.metadata.key, self._name))
        ended = end_condition(job) if self._inherited and job is not None else None
        ground, outcome = self._ground, await self._decided()
        outcome = await outcome_from_events(
            outcome, ground.client, ground.namespace, self._job(), self._pods()
        )
        if outcome.exit_code is not None or outcome.result is TaskResult.SUCCEEDED:
            self._note_start()  # it may have begun and ended between two looks
        if (log := self._task_log()) is not None:
            await log.finish(self._pods())
        if outcome.result is TaskResult.FAILED:
            if ground.evidence is not None:
                ended_at = ended.last_transition_time if ended is not None else None
                await ground.evidence.keep(self._name, outcome, ended_before=ended_at)
            if self._is_active():
                await self._end_active()
        self._ground.index.remove_handler(self._name, self)
        self._ground.events.forget(self.uid)
        return outcome

    async def _decided(self) -> Outcome:
        while True:
            outcome, look_again_in = self._evaluate()
            if outcome is not None:
                return outcome
            await self._signal.wait(look_again_in)

    def _evaluate(self) -> tuple[Outcome | None, float | None]:
        """Return the outcome, if it is certain, else in how many seconds to look again without a change."""
        if self._stopping is not None and (self._deleted or self._gone):
            return cancelled(self._stopping), None
        now = self._ground.clock()
        seen = Observation(self._job(), self._pods(), self._ground.events.facts(self.uid))
        evaluation = evaluate(seen, self._first_seen, now, self._ground.policy)
        if evaluation.phase == "running":
            self._note_start()
        if evaluation.outcome is not None:
            pause = self._until_pods_tell(evaluation, now)
            return (evaluation.outcome, None) if pause is None else (None, pause)
        if self._gone:
            return self._evaluate_deleted(now)
        if evaluation.problems or self._first_seen:
            self._note_problems(evaluation, now)
        again = evaluation.look_again_at
        pauses = [] if again is None else [max(0.0, again - now)]
        if evaluation.ask:
            pause = self._ground.events.ask(self.uid, evaluation.ask, self._signal.set)
            pauses += [] if pause is None else [pause]
        return None, min(pauses, default=None)

    def _evaluate_deleted(self, now: float) -> tuple[Outcome | None, float | None]:
        """Judge a Job that somebody else has deleted."""
        if self._gone_at is None:
            self._gone_at = now
        pause = self._gone_at + self._ground.precedence - now
        if self._inherited and pause > 0:
            return None, pause
        return failed(FailureReason.JOB_FAILED, _DELETED), None

    def _note_start(self) -> None:
        job = self._job()
        if not self._started and job is not None and job.metadata.key is not None:
            self._started = True
            self._ground.notify(TaskEvent(EventKind.AGENT_STARTED, job.metadata.key))

    def _note_problems(self, evaluation: Evaluation, now: float) -> None:
        self._first_seen = {key: self._first_seen.get(key, now) for key in evaluation.problems}
        if not self._first_seen:
            self._ground.events.forget(self.uid)

    def _until_pods_tell(self, evaluation: Evaluation, now: float) -> float | None:
        """Return for how many seconds to wait for the Pod of a Job that has ended; ``None``: not at all.

        A Pod ends before its Job, but the two are told by two watches. The Pod knows more:
        why it failed, and which container's log there is. It is waited for a moment only.
        """
        assert evaluation.outcome is not None
        of_interest = self._output.wanted is not False or evaluation.outcome.result is TaskResult.FAILED
        if evaluation.phase != "finished" or self._gone or not of_interest:
            return None
        last = last_pod(self._pods())
        if last is not None and last.has_ended:
            return None
        if self._ended_at is None:
            self._ended_at = now
        pause = self._ended_at + self._ground.settle - now
        return pause if pause > 0 else None

    def _job(self) -> JobView | None:
        """The Job as last seen; ``None`` until the watch has told of it. A namesake is another Job."""
        if self._gone:
            return self._last
        job = self._ground.index.job(self._name)
        return job if job is not None and job.metadata.uid == self.uid else None

    def _pods(self) -> tuple[PodView, ...]:
        return self._ground.index.pods(self._name, self.uid)

    def _is_active(self) -> bool:
        """Whether the Job may still run something."""
        if self._gone or self._deleted:
            return False
        job = self._job()
        return job is None or not (job.condition("Complete") or job.condition("Failed"))

    async def _delete(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Delete the Job, however long the API server is away."""
        ground = self._ground

        async def ask() -> None:
            await ground.client.delete_job(ground.namespace, self._name, uid=self.uid)
            self._deleted = True

        patience = ground.client.settings.create.budget
        await retry_until_decided(ask, f"Deletion of Job {self._name}", patience=patience, wanted=wanted)

    def _may_be_stopped(self) -> bool:
        return self._outcome is None and self._is_active()

    def _vanished_without_an_end(self) -> bool:
        """Whether somebody else deleted the Job, such as another follower that was told to stop it too."""
        last = self._last
        ended = last is not None and (last.condition("Complete") or last.condition("Failed"))
        return self._outcome is None and self._gone and not ended

    async def _end_active(self) -> None:
        if not self._ground.cleanup:
            return
        try:
            ground = self._ground
            await ground.client.delete_job(
                ground.namespace, self._name, uid=self.uid, policy=ground.client.settings.create
            )
            self._deleted = True
        except ApiError as error:
            _logger.warning("Job %s has failed for good and cannot be deleted yet: %s", self._name, error)

    def _look_at_log(self) -> None:
        if self._output.wanted and (log := self._task_log()) is not None:
            log.look(self._pods())

    def _task_log(self) -> TaskLog | None:
        """What copies the output, unless nobody wants it."""
        if self._output.wanted is False:
            return None
        if self._log is None:
            ground = self._ground
            self._log = TaskLog(ground.client, ground.namespace, ground.follows, self._output)
        return self._log
