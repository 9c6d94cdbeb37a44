"""Finds the Jobs of earlier workers, and adopts each once when it is this worker's."""

import asyncio
import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from oz_agent_worker.common.aio import cancel_and_wait, wait_for_event
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import id_hash, label_safe
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.status.job_state import JobState, TaskStage, job_state
from oz_agent_worker.worker.backends.kubernetes.watch.job_index import JobIndex
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change

from .decision import (
    Adopt,
    AdoptionDecision,
    AdoptionPolicy,
    CheckSecret,
    Ignore,
    IgnoreReason,
    JobContext,
    Liveness,
    Wait,
    decide,
    superseded_jobs,
)
from .liveness import AdoptionQueries, OwnerLiveness

__all__ = ["Adoption"]

_logger = logging.getLogger(__name__)

#: Seconds until something that failed is tried again.
_RETRY_AFTER: Final = 3.0
_INCOMPLETE: Final = "the Secret of the task's variables is missing; it comes when the task is assigned again"
_WAITING: Final[Mapping[Liveness, str]] = {
    Liveness.ALIVE: "another worker with this ID owns it and is alive",
    Liveness.UNKNOWN: "whether its owner is alive cannot be known; its end will be reported",
    Liveness.GONE: _INCOMPLETE,
    Liveness.SELF: _INCOMPLETE,
}


@dataclass(slots=True)
class _Candidate:
    """A Job that may be adopted: since when it is known, and when to decide again, in the clock's seconds.

    ``secret``: whether its Secret exists; ``None`` until the API server was asked.
    """

    owner: str | None
    since: float
    at: float = math.inf
    secret: bool | None = None


class _Round:
    """One round of decisions: superseded Jobs are found once, and ignored Jobs are logged together."""

    def __init__(self, index: JobIndex, worker_label: str) -> None:
        self._index = index
        self._worker_label = worker_label
        self.ignored: dict[IgnoreReason, list[str]] = defaultdict(list)

    @cached_property
    def superseded(self) -> frozenset[str]:
        return superseded_jobs(self._index.jobs(), self._worker_label)

    def log_ignored(self) -> None:
        """Log the ignored Jobs, one line for each reason; a Job that is being deleted is no news."""
        for reason, names in self.ignored.items():
            level = logging.DEBUG if reason is IgnoreReason.DELETING else logging.INFO
            _logger.log(level, "Not adopted: %s: %s", _count(names), reason)


class Adoption:
    """Decides on every Job of this worker's ID that the worker did not create itself.

    It listens to the index: a change costs a look at one Job, and nothing if the Job is decided
    on. One task looks up owners, each when it is due (``OwnerLiveness``). ``found`` hears of each
    Job to adopt; it may not block or raise. ``clock`` gives seconds and never runs backwards.
    """

    def __init__(
        self,
        index: JobIndex,
        owners: OwnerLiveness,
        queries: AdoptionQueries,
        *,
        worker_id: str,
        policy: AdoptionPolicy,
        found: Callable[[JobView], None],
        clock: Callable[[], float],
    ) -> None:
        self._index = index
        self._owners = owners
        self._queries = queries
        self._faults = FaultLog(_logger, "looking for Jobs to adopt", clock)
        self._found = found
        self._clock = clock
        self._worker_hash = id_hash(worker_id)
        self._worker_label = label_safe(worker_id)
        self._policy = policy
        self._decided: dict[str, str | None] = {}
        self._launching: set[str] = set()
        self._candidates: dict[str, _Candidate] = {}
        self._logged_owners: set[str | None] = set()
        self._wake = asyncio.Event()
        self._wakes_at = math.inf
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Decide on every Job that exists; then keep deciding in the background.

        An owner that cannot be looked up is looked up again later.
        """
        self._index.set_listener(self)
        for job in self._index.jobs():
            self._candidate(job)
        await self._decide_all()
        self._task = asyncio.create_task(self._run(), name="adoption")

    async def close(self) -> None:
        """Stop adopting Jobs."""
        task, self._task = self._task, None
        await cancel_and_wait(task)

    # Jobs that this worker creates -------------------------------------------------------------

    @contextlib.contextmanager
    def launching(self, name: str) -> Iterator[None]:
        """Do not adopt the Job ``name`` while this worker creates it.

        ``mark_owned`` makes that last; without it, a Job of the name is a candidate again at the end.
        """
        self._launching.add(name)
        self._candidates.pop(name, None)
        try:
            yield
        finally:
            self._launching.discard(name)
            job = self._index.job(name)
            if job is not None:
                self._consider(job)

    def mark_owned(self, name: str, uid: str | None) -> None:
        """Note that this worker follows the Job: it is never a candidate."""
        self._decided[name] = uid

    async def objection(self, job: JobView) -> str | None:
        """Say why this worker may not adopt the Job of an execution assigned to it; ``None`` if it may.

        Raises:
            ApiError: the owner cannot be looked up for now.
        """
        labels = job.metadata.labels
        own = (self._worker_hash, self._worker_label)
        if labels is None or (labels.worker_hash, labels.worker_id) != own:
            return f"belongs to another worker ({(labels and labels.worker_id) or 'without an ID'})"
        owner = _owner_of(job)
        match await self._owners.look_up(owner):
            case Liveness.ALIVE:
                return f"is owned by another worker with this ID, which is alive ({owner})"
            case Liveness.UNKNOWN:
                return (
                    f"has an owner ({owner or 'not noted'}) of which it cannot be known whether it is alive"
                )
        return None

    # Changes of Jobs (watch.job_index.JobListener) ------------------------------------------------

    def on_job_change(self, change: Change[JobView]) -> None:
        """Take a change of a Job."""
        job = change.object
        if not change.deleted:
            self._consider(job)
            return
        name = job.metadata.name
        if self._decided.get(name, job.metadata.uid) == job.metadata.uid:
            self._decided.pop(name, None)
        self._candidates.pop(name, None)

    def on_relist(self) -> None:
        """Forget the Jobs that a new list does not have and that no execution follows."""
        self._decided = {
            name: uid
            for name, uid in self._decided.items()
            if self._index.job(name) is not None or self._index.has_handler(name)
        }

    # Decisions ----------------------------------------------------------------------------------

    def _candidate(self, job: JobView) -> _Candidate | None:
        """Return the Job's candidate, a new one if its owner changed; ``None`` if it is decided on."""
        name, uid = job.metadata.name, job.metadata.uid
        if name in self._launching or (name in self._decided and self._decided[name] == uid):
            return None
        owner, known = _owner_of(job), self._candidates.get(name)
        if known is None or known.owner != owner:
            known = self._candidates[name] = _Candidate(owner, self._clock())
        return known

    def _consider(self, job: JobView) -> None:
        """Decide on a new or changed Job; wake the task if it must look up the owner, or is due earlier."""
        candidate = self._candidate(job)
        if candidate is None:
            return
        if self._owners.last_known(candidate.owner) is None:
            self._wake.set()
            return
        this_round = _Round(self._index, self._worker_label)
        self._decide(job, candidate, this_round)
        this_round.log_ignored()
        if job.metadata.name in self._candidates and self._due_at(candidate) < self._wakes_at:
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wakes_at = min(map(self._due_at, self._candidates.values()), default=math.inf)
            pause = None if self._wakes_at == math.inf else max(0.0, self._wakes_at - self._clock())
            await wait_for_event(self._wake, pause)
            try:
                await self._decide_all()
            except Exception as error:  # noqa: BLE001 (logged with its traceback)
                # Any error: a worker that stops adopting would leave tasks without an owner.
                self._faults.failed("failed, and is tried again", repr(error), traceback=error)
                await asyncio.sleep(_RETRY_AFTER)
            else:
                self._faults.works()

    def _due_at(self, candidate: _Candidate) -> float:
        """Return when to decide on a candidate, or look up its owner, even if nothing changes."""
        return min(candidate.at, self._owners.due_at(candidate.owner))

    async def _decide_all(self) -> None:
        """Look up the owners that are due, and decide on every candidate."""
        self._wake.clear()
        await self._look_up_owners()
        await self._read_server_clock()
        this_round = _Round(self._index, self._worker_label)
        for name, candidate in list(self._candidates.items()):
            job = self._index.job(name)
            if job is None:
                self._candidates.pop(name, None)
            elif self._owners.last_known(candidate.owner) is not None and isinstance(
                self._decide(job, candidate, this_round), CheckSecret
            ):
                await self._check_secret(job, candidate, this_round)
        this_round.log_ignored()
        self._log_waiting()

    async def _look_up_owners(self) -> None:
        now = self._clock()
        owners = {candidate.owner for candidate in self._candidates.values()}
        self._owners.keep_only(owners)
        due = [owner for owner in owners if self._owners.due_at(owner) <= now]
        # All look-ups end before an error is raised: at the start, the caller then closes the client.
        results = await asyncio.gather(*map(self._look_up, due), return_exceptions=True)
        for error in filter(None, results):
            raise error

    async def _look_up(self, owner: str | None) -> None:
        try:
            await self._owners.look_up(owner)
        except ApiError as error:
            _logger.debug("the owner %s cannot be looked up: %s", owner, error)

    async def _read_server_clock(self) -> None:
        """Learn the API server's time before the age of an ended Job counts; local clocks differ."""
        jobs = filter(None, map(self._index.job, self._candidates))
        if not self._queries.server_clock.known and any(map(self._has_ended, jobs)):
            with contextlib.suppress(ApiError):
                await self._queries.read_clock()

    def _state(self, job: JobView) -> JobState:
        return job_state(job, self._index.pods(job.metadata.name, job.metadata.uid or ""))

    def _has_ended(self, job: JobView) -> bool:
        return self._state(job).stage in {TaskStage.ENDING, TaskStage.ENDED}

    async def _check_secret(self, job: JobView, candidate: _Candidate, this_round: _Round) -> None:
        name = job.metadata.name
        try:
            candidate.secret = await self._queries.secret_exists(job)
        except ApiError as error:
            _logger.debug("the Secret of Job %s cannot be looked for: %s", name, error)
            candidate.at = self._clock() + _RETRY_AFTER
            return
        # The Job may have got another owner, or been decided on, during the request.
        if self._candidates.get(name) is candidate:
            self._decide(self._index.job(name) or job, candidate, this_round)

    def _decide(self, job: JobView, candidate: _Candidate, this_round: _Round) -> AdoptionDecision:
        """Decide on a Job whose owner was looked up, and act on the decision."""
        name, uid = job.metadata.name, job.metadata.uid
        owner = self._owners.last_known(candidate.owner)
        assert owner is not None, "an owner is looked up before its Jobs are decided on"
        state = self._state(job)
        ended_elsewhere = owner is not Liveness.ALIVE and state.stage in {TaskStage.ENDING, TaskStage.ENDED}
        context = JobContext(
            owner=owner,
            now=self._queries.server_clock.now(),
            superseded=ended_elsewhere and name in this_round.superseded,
            started=any(pod.phase not in ("", "Pending") for pod in state.pods),
            secret=candidate.secret,
            known_for=self._clock() - candidate.since,
        )
        decision = decide(state, self._worker_label, context, self._policy)
        match decision:
            case Wait(seconds):
                candidate.at = math.inf if seconds is None else self._clock() + seconds
            case CheckSecret():
                candidate.at = self._clock()
            case Adopt() | Ignore():
                self._candidates.pop(name, None)
                self._decided[name] = uid
        if isinstance(decision, Adopt):
            self._found(job)
        elif isinstance(decision, Ignore):
            this_round.ignored[decision.reason].append(name)
        return decision

    def _log_waiting(self) -> None:
        """Log once for each owner that its Jobs are not adopted yet."""
        waiting: dict[str | None, list[str]] = {}
        for name, candidate in self._candidates.items():
            waiting.setdefault(candidate.owner, []).append(name)
        for owner, names in waiting.items():
            liveness = self._owners.last_known(owner)
            if owner not in self._logged_owners and liveness is not None:
                self._logged_owners.add(owner)
                shown = owner or "not noted"
                _logger.info("Not adopted yet: %s: %s (owner: %s)", _count(names), _WAITING[liveness], shown)
        self._logged_owners &= waiting.keys()


def _owner_of(job: JobView) -> str | None:
    return job.metadata.annotations.owner if job.metadata.annotations else None


def _count(names: Sequence[str]) -> str:
    return f"Job {names[0]}" if len(names) == 1 else f"{len(names)} Jobs, such as {names[0]}"
