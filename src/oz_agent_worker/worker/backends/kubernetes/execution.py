"""One execution in the cluster: waits for the end of its Job, stops it, cleans up after it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, cancelled, failed
from oz_agent_worker.worker.backends.base import OutputSink
from oz_agent_worker.worker.events import EventKind, Notify, TaskEvent, ignore_event

from .api.client import KubernetesClient
from .api.errors import ApiError
from .api.retry import retry_until_decided
from .event_reader import EventReader
from .inspection.event_history import outcome_from_events
from .inspection.evidence import EvidenceKeeper
from .log_follower import LogFollower, LogFollowers
from .objects import JobView, PodView, last_pod
from .status.ending import end_of_task
from .status.evaluate import Evaluation, Observation, evaluate
from .status.job_state import TaskStage, end_condition, job_state
from .status.policy import ObservationPolicy
from .watch.job_index import JobIndex

__all__ = ["ExecutionContext", "KubernetesExecution"]

_logger = logging.getLogger(__name__)

_NO_PROBLEMS: Final[Mapping[str, float]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """What all executions of a backend share; times are in seconds.

    ``clock`` never runs backwards. ``log_followers`` are the logs that are copied while their tasks run.
    ``evidence`` keeps the state of failed tasks, where that is configured. The end of a Job waits
    ``settle`` at most for the watch of Pods to catch up with the watch of Jobs. ``precedence`` is how
    long another worker that adopted the same Job has to report first why it deleted the Job.
    """

    client: KubernetesClient
    index: JobIndex
    namespace: str
    cleanup: bool
    policy: ObservationPolicy
    events: EventReader
    clock: Callable[[], float]
    log_followers: LogFollowers
    evidence: EvidenceKeeper | None = None
    precedence: float
    settle: float = 2.0
    notify: Notify = ignore_event


class _Signal:
    """Wakes one waiter, at once where it was set before the wait.

    Unlike ``asyncio.Event`` it holds no deque: there may be thousands of executions.
    """

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
    """A Job in flight. It holds little more than the Job's name and UID: there may be thousands.

    A failure can be certain before the Job ends: an image cannot be pulled, or no node takes the
    Pod. Such a Job is deleted before ``wait`` returns (unless ``cleanup`` is off), because the task
    may be running elsewhere by the time this Job would start. If the Job has a Pod too many, that is
    done at once, and with ``cleanup`` off too. A Job whose task has ended and that goes on is deleted by
    ``release``. A Job that failed by itself stays for its TTL.

    ``adopted``: another worker created the Job. If that worker is gone, several workers with its ID
    may follow the Job, and only the worker that deletes it knows the reason. ``created_at`` is when
    the API server had accepted the Job, in seconds of the monotonic clock.
    """

    __slots__ = (
        "_adopted",
        "_context",
        "_deleted",
        "_ended_at",
        "_first_seen",
        "_gone",
        "_gone_at",
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
        context: ExecutionContext,
        name: str,
        uid: str,
        created_at: float,
        output: OutputSink,
        *,
        adopted: bool = False,
    ) -> None:
        self.uid = uid
        self.created_at = created_at
        self._adopted = adopted
        self._context = context
        self._name = name
        self._output = output
        self._outcome: Outcome | None = None
        self._turn = asyncio.Lock()
        self._signal = _Signal()
        self._first_seen = _NO_PROBLEMS
        self._started = False
        self._stopping: str | None = None
        #: This execution has deleted the Job.
        self._deleted = False
        #: The watch has reported the Job as deleted or being deleted, by any client.
        self._gone = False
        self._gone_at: float | None = None
        self._ended_at: float | None = None
        self._last: JobView | None = None
        self._log: LogFollower | None = None
        context.index.add_handler(name, self)
        self._look_at_log()

    # Called by the index -----------------------------------------------------------------------

    def on_update(self) -> None:
        """The Job or one of its Pods has changed."""
        self._look_at_log()
        self._signal.set()

    def on_delete(self, last: JobView | None) -> None:
        """The Job is deleted or being deleted; ``last`` is its last state, where known."""
        self._gone = True
        self._last = last or self._last
        self._signal.set()

    # Called by the worker ----------------------------------------------------------------------

    async def wait(self) -> Outcome:
        """Return how the Job ended, after its output is written to the sink.

        May delete the Job: see the class. May be called again: the outcome is the same.
        """
        async with self._turn:
            if self._outcome is None:
                self._outcome = await self._conclude()
        return self._outcome

    async def stop(self, reason: str) -> None:
        """Delete the Job; the garbage collector ends its Pods, each with its grace period.

        While the API server is away this tries again, for as long as the Job may run.

        Raises:
            ApiError: the API server refused; the Job goes on.
        """
        if self._stopping is not None or not (self._may_be_stopped() or self._deleted_by_another()):
            return
        self._stopping = reason
        try:
            await self._delete(self._may_be_stopped)
        except BaseException:
            self._stopping = None
            raise
        self._signal.set()

    async def release(self, outcome: Outcome) -> None:
        """Delete the Job if it succeeded, or if an earlier deletion failed; with cleanup on.

        Raises:
            ApiError: the Job may still exist; its TTL removes it.
        """
        self._context.index.remove_handler(self._name, self)
        exists = not (self._deleted or self._gone)
        unwanted = outcome.result is TaskResult.SUCCEEDED or self._may_run()
        if self._context.cleanup and exists and unwanted:
            await self._delete()

    # --------------------------------------------------------------------------------------------

    async def _conclude(self) -> Outcome:
        context, job = self._context, self._job()
        if job is not None and job.metadata.key is not None:
            context.notify(TaskEvent(EventKind.JOB_NAMED, job.metadata.key, self._name))
        ended = end_condition(job) if self._adopted and job is not None else None
        outcome = await self._decided()
        if outcome.reason is FailureReason.POD_REPLACED and self._may_run():
            await self._delete_failed()
        outcome = await outcome_from_events(
            outcome, context.client, context.namespace, self._job(), self._pods()
        )
        if outcome.exit_code is not None or outcome.result is TaskResult.SUCCEEDED:
            self._note_start()  # it may have started and ended between two observations
        if (log := self._task_log()) is not None:
            await log.finish(self._pods())
        if outcome.result is TaskResult.FAILED:
            if context.evidence is not None:
                ended_at = ended.last_transition_time if ended is not None else None
                await context.evidence.keep(self._name, outcome, ended_before=ended_at)
            if context.cleanup and self._may_start():
                await self._delete_failed()
        context.index.remove_handler(self._name, self)
        context.events.forget(self.uid)
        return outcome

    async def _decided(self) -> Outcome:
        while True:
            outcome, pause = self._evaluate()
            if outcome is not None:
                return outcome
            await self._signal.wait(pause)

    def _evaluate(self) -> tuple[Outcome | None, float | None]:
        """Return the outcome if it is certain, else how long to wait for a change, in seconds."""
        if self._stopping is not None and (self._deleted or self._gone):
            return cancelled(self._stopping), None
        context, now = self._context, self._context.clock()
        facts, replaced = context.events.facts(self.uid), context.index.replaced(self._name, self.uid)
        observed = Observation(self._job(), self._pods(), facts, replaced)
        evaluation = evaluate(observed, self._first_seen, now, context.policy)
        if evaluation.stage in {TaskStage.RUNNING, TaskStage.ENDING}:
            self._note_start()
        if evaluation.outcome is not None:
            pause = self._until_pods_settle(evaluation, now)
            if pause is None and evaluation.end is not None and evaluation.end.finding is not None:
                _logger.info("Job %s: %s", self._name, evaluation.end.finding.statement())
            return (evaluation.outcome, None) if pause is None else (None, pause)
        if self._gone:
            return self._evaluate_deleted(evaluation, now)
        self._note_problems(evaluation, now)
        again = evaluation.recheck_at
        pauses = [] if again is None else [max(0.0, again - now)]
        if evaluation.read_events_of:
            pause = context.events.ask(self.uid, evaluation.read_events_of, self._signal.set)
            pauses += [] if pause is None else [pause]
        return None, min(pauses, default=None)

    def _evaluate_deleted(self, evaluation: Evaluation, now: float) -> tuple[Outcome | None, float | None]:
        """Evaluate a Job that this execution has not deleted."""
        if self._gone_at is None:
            self._gone_at = now
        pause = self._gone_at + self._context.precedence - now
        if self._adopted and pause > 0:
            return None, pause
        if evaluation.end is not None and evaluation.end.undisturbed:
            return evaluation.end.outcome, None
        message = "The Job was deleted by somebody else before it ended"
        return failed(FailureReason.JOB_FAILED, message), None

    def _note_start(self) -> None:
        job = self._job()
        if not self._started and job is not None and job.metadata.key is not None:
            self._started = True
            self._context.notify(TaskEvent(EventKind.AGENT_STARTED, job.metadata.key))

    def _note_problems(self, evaluation: Evaluation, now: float) -> None:
        """Keep when each problem was first seen, and forget the problems that have passed."""
        if evaluation.problems:
            self._first_seen = {key: self._first_seen.get(key, now) for key in evaluation.problems}
        elif self._first_seen:
            self._first_seen = _NO_PROBLEMS
            self._context.events.forget(self.uid)

    def _until_pods_settle(self, evaluation: Evaluation, now: float) -> float | None:
        """Return how many seconds to wait for the Pod of a Job that has ended; ``None``: not at all.

        A Pod ends before its Job, but two watches report them. The Pod knows more: why it failed,
        and which containers have a log.
        """
        assert evaluation.outcome is not None
        of_interest = self._output.wanted is not False or evaluation.outcome.result is TaskResult.FAILED
        if evaluation.stage is not TaskStage.ENDED or self._gone or not of_interest:
            return None
        last = last_pod(self._pods())
        if last is not None and last.has_ended:
            return None
        if self._ended_at is None:
            self._ended_at = now
        pause = self._ended_at + self._context.settle - now
        return pause if pause > 0 else None

    def _job(self) -> JobView | None:
        """The Job as last seen; ``None`` until the watch has reported it. Another UID is another Job."""
        if self._gone:
            return self._last
        job = self._context.index.job(self._name)
        return job if job is not None and job.metadata.uid == self.uid else None

    def _pods(self) -> tuple[PodView, ...]:
        return self._context.index.pods(self._name, self.uid)

    def _may_run(self) -> bool:
        """Whether the Job may still run something."""
        if self._gone or self._deleted:
            return False
        job = self._job()
        return job is None or end_condition(job) is None

    def _may_start(self) -> bool:
        """Whether the Job may yet start the task, or go on with it."""
        job = self._job()
        ends = job is not None and end_of_task(job_state(job, self._pods()), self._context.policy) is not None
        return self._may_run() and not ends

    def _may_be_stopped(self) -> bool:
        return self._outcome is None and self._may_run()

    def _deleted_by_another(self) -> bool:
        """Whether another client deleted the Job before it ended, such as another worker."""
        ended = self._last is not None and end_condition(self._last) is not None
        return self._outcome is None and self._gone and not ended

    async def _delete(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Delete the Job, however long the API server is away, for as long as that is ``wanted``."""
        context = self._context

        async def delete() -> None:
            await context.client.delete_job(context.namespace, self._name, uid=self.uid)
            self._deleted = True

        patience = context.client.settings.create.budget
        await retry_until_decided(delete, f"Deletion of Job {self._name}", patience=patience, wanted=wanted)

    async def _delete_failed(self) -> None:
        """Delete a Job that failed before it ended; ``release`` tries again if this fails."""
        context = self._context
        policy = context.client.settings.create
        try:
            await context.client.delete_job(context.namespace, self._name, uid=self.uid, policy=policy)
            self._deleted = True
        except ApiError as error:
            _logger.warning("Job %s has certainly failed and cannot be deleted yet: %s", self._name, error)

    def _look_at_log(self) -> None:
        if self._output.wanted and (log := self._task_log()) is not None:
            log.update(self._pods())

    def _task_log(self) -> LogFollower | None:
        """Return the follower that copies the output; ``None`` if no output is wanted."""
        if self._output.wanted is False:
            return None
        if self._log is None:
            context = self._context
            self._log = LogFollower(context.client, context.namespace, context.log_followers, self._output)
        return self._log
