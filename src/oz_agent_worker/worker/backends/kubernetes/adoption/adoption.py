"""Finds the executions that earlier workers left, and tells of each once, when it is this worker's."""

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
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import label_safe, worker_hash
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
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
    end_condition,
    superseded,
)
from .liveness import AdoptionQueries, OwnerLiveness, ServerClock

__all__ = ["Adoption"]

_logger = logging.getLogger(__name__)

#: In how many seconds something is tried again that failed.
_PAUSE: Final = 3.0
_WAITING: Final[Mapping[Liveness, str]] = {
    Liveness.ALIVE: "of another worker of this ID, which is alive: followed when it is gone ({owner})",
    Liveness.UNKNOWN: "left alone until ended: it cannot be known whether the owner is alive ({owner})",
    Liveness.GONE: "without the Secret of the task's variables: the task is awaited ({owner})",
    Liveness.SELF: "without the Secret of the task's variables: the task is awaited ({owner})",
}


@dataclass(slots=True)
class _Candidate:
    """A Job whose time may come: when that is, in the clock's seconds, and what is known of it."""

    owner: str | None
    since: float
    at: float = math.inf
    secret: bool | None = None


class _Look:
    """One look at the candidates: what is the same for all of them is found out once."""

    def __init__(self, index: JobIndex, worker_label: str) -> None:
        self._index = index
        self._worker_label = worker_label

    @cached_property
    def superseded(self) -> frozenset[str]:
        return superseded(self._index.jobs(), self._worker_label)


class Adoption:
    """Decides on every Job of the worker's hash that the worker did not create itself.

    It observes the index: a change costs a look at one Job, and nothing where the Job is in
    hand. Owners are looked up by one task, in their own time (``OwnerLiveness``). ``found`` is told of
    each Job that is this worker's to follow; it does not block or raise. ``clock`` gives
    seconds, and never runs backwards.
    """

    def __init__(
        self,
        index: JobIndex,
        owners: OwnerLiveness,
        server_clock: ServerClock,
        questions: AdoptionQueries,
        *,
        worker_id: str,
        policy: AdoptionPolicy,
        found: Callable[[JobView], None],
        clock: Callable[[], float],
    ) -> None:
        self._index = index
        self._owners = owners
        self._server_clock = server_clock
        self._questions = questions
        self._found = found
        self._clock = clock
        self._worker_hash = worker_hash(worker_id)
        self._worker_label = label_safe(worker_id)
        self._policy = policy
        self._settled: dict[str, str | None] = {}
        self._launching: set[str] = set()
        self._candidates: dict[str, _Candidate] = {}
        self._said: set[str | None] = set()
        self._news = asyncio.Event()
        self._wakes_at = math.inf
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at every Job that stands, and find those that are this worker's; then go on observing.

        An owner that cannot be looked for by now is looked for later.
        """
        self._index.set_listener(self)
        for job in self._index.jobs():
            self._note(job)
        await self._look()
        self._task = asyncio.create_task(self._look_for_ever(), name="take-over")

    async def close(self) -> None:
        """Find nothing any more."""
        task, self._task = self._task, None
        await cancel_and_wait(task)

    # What this worker creates ------------------------------------------------------------------

    @contextlib.contextmanager
    def launching(self, name: str) -> Iterator[None]:
        """For as long as the Job ``name`` is being created here, it is nothing to take over.

        ``settle`` makes that last; without it, whatever stands of the name is looked at again.
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

    def settle(self, name: str, uid: str | None) -> None:
        """The Job is in this worker's hands."""
        self._settled[name] = uid

    async def objection(self, job: JobView) -> str | None:
        """Why this worker may not adopt a Job of the execution that it was to create; ``None``: it may.

        Raises:
            ApiError: it cannot be known for now.
        """
        labels = job.metadata.labels
        if labels is None or (labels.worker_hash, labels.worker_id) != (
            self._worker_hash,
            self._worker_label,
        ):
            return f"is of another worker ({(labels and labels.worker_id) or 'without an ID'})"
        owner = _owner_of(job)
        match await self._owners.look(owner):
            case Liveness.ALIVE:
                return f"is in the hands of another worker of this ID, which is alive ({owner})"
            case Liveness.UNKNOWN:
                whom = owner or "nobody that is noted"
                return f"is in the hands of {whom}, of whom it cannot be known whether they are alive"
        return None

    # The index tells ---------------------------------------------------------------------------

    def on_job_change(self, change: Change[JobView]) -> None:
        """A Job came, changed or went."""
        job = change.object
        if not change.deleted:
            self._consider(job)
            return
        name = job.metadata.name
        if self._settled.get(name, job.metadata.uid) == job.metadata.uid:
            self._settled.pop(name, None)
        self._candidates.pop(name, None)

    def on_relist(self) -> None:
        """After a list, what has gone unseen is forgotten."""
        self._settled = {
            name: uid
            for name, uid in self._settled.items()
            if self._index.job(name) is not None or self._index.has_handler(name)
        }

    # --------------------------------------------------------------------------------------------

    def _consider(self, job: JobView) -> None:
        if self._note(job):
            candidate = self._candidates[job.metadata.name]
            if self._owners.known(candidate.owner) is None:
                self._news.set()
            else:
                left = defaultdict[IgnoreReason, list[str]](list)
                decision = self._decide(job, candidate, self._new_look(), left)
                _say_left(left)
                if not isinstance(decision, Adopt | Ignore) and self._comes_at(candidate) < self._wakes_at:
                    self._news.set()

    def _note(self, job: JobView) -> bool:
        """Take a Job for a candidate, unless it is in hand or decided on."""
        name, uid = job.metadata.name, job.metadata.uid
        if name in self._launching or (name in self._settled and self._settled[name] == uid):
            return False
        owner = _owner_of(job)
        if name not in self._candidates or self._candidates[name].owner != owner:
            self._candidates[name] = _Candidate(owner, self._clock())
        return True

    def _new_look(self) -> _Look:
        return _Look(self._index, self._worker_label)

    async def _look_for_ever(self) -> None:
        while True:
            self._wakes_at = min(map(self._comes_at, self._candidates.values()), default=math.inf)
            pause = None if self._wakes_at == math.inf else max(0.0, self._wakes_at - self._clock())
            await wait_for_event(self._news, pause)
            try:
                await self._look()
            except Exception:
                # Whatever this is, tasks that nobody looks for any more would be worse.
                _logger.exception("looking for Jobs to take over failed; it is tried again")
                await asyncio.sleep(_PAUSE)

    def _comes_at(self, candidate: _Candidate) -> float:
        """When a candidate's time or its owner's comes by itself."""
        return min(candidate.at, self._owners.again_at(candidate.owner))

    async def _look(self) -> None:
        """Look for the owners whose time has come, and decide on every candidate."""
        self._news.clear()
        await self._look_for_owners()
        await self._look_at_clock()
        look, left = self._new_look(), defaultdict[IgnoreReason, list[str]](list)
        for name, candidate in list(self._candidates.items()):
            job = self._index.job(name)
            if job is None:
                self._candidates.pop(name, None)
            elif self._owners.known(candidate.owner) is not None:
                await self._settle_candidate(job, candidate, look, left)
        _say_left(left)
        self._say_waiting()

    async def _look_for_owners(self) -> None:
        now = self._clock()
        owners = {candidate.owner for candidate in self._candidates.values()}
        self._owners.forget_all_but(owners)
        due = [owner for owner in owners if self._owners.again_at(owner) <= now]
        looks = await asyncio.gather(*map(self._owners.look, due), return_exceptions=True)
        for look in looks:
            if isinstance(look, ApiError):
                _logger.debug("the owner of a Job cannot be looked for: %s", look)
            elif isinstance(look, BaseException):
                raise look

    async def _look_at_clock(self) -> None:
        """Know the server's time before it decides: this machine's may be another."""
        ended = (end_condition(job) for job in map(self._index.job, self._candidates) if job is not None)
        if not self._server_clock.heard and any(ended):
            with contextlib.suppress(ApiError):
                await self._questions.read_clock()

    async def _settle_candidate(
        self, job: JobView, candidate: _Candidate, look: _Look, left: dict[IgnoreReason, list[str]]
    ) -> None:
        decision = self._decide(job, candidate, look, left)
        if isinstance(decision, CheckSecret):
            try:
                candidate.secret = await self._questions.secret_stands(job)
            except ApiError as error:
                _logger.debug("the Secret of Job %s cannot be looked for: %s", job.metadata.name, error)
                candidate.at = self._clock() + _PAUSE
                return
            # It may have changed hands while the answer came.
            if self._candidates.get(job.metadata.name) is candidate:
                self._decide(self._index.job(job.metadata.name) or job, candidate, look, left)

    def _decide(
        self, job: JobView, candidate: _Candidate, look: _Look, left: dict[IgnoreReason, list[str]]
    ) -> AdoptionDecision:
        decision = decide(job, self._worker_label, self._circumstances(job, candidate, look), self._policy)
        now, name = self._clock(), job.metadata.name
        match decision:
            case Adopt():
                self._done(job)
                self._found(job)
            case Ignore(reason):
                self._done(job)
                left[reason].append(name)
            case Wait(seconds):
                candidate.at = math.inf if seconds is None else now + seconds
            case CheckSecret():
                candidate.at = now
        return decision

    def _circumstances(self, job: JobView, candidate: _Candidate, look: _Look) -> JobContext:
        name, owner = job.metadata.name, self._owners.known(candidate.owner)
        assert owner is not None, "an owner is looked for before its Jobs are decided on"
        pods = self._index.pods(name, job.metadata.uid or "")
        return JobContext(
            owner=owner,
            now=self._server_clock.now(),
            superseded=owner is not Liveness.ALIVE
            and end_condition(job) is not None
            and name in look.superseded,
            started=any(pod.phase not in ("", "Pending") for pod in pods),
            secret=candidate.secret,
            seen_for=self._clock() - candidate.since,
        )

    def _done(self, job: JobView) -> None:
        self._candidates.pop(job.metadata.name, None)
        self._settled[job.metadata.name] = job.metadata.uid

    def _say_waiting(self) -> None:
        """Say once of each owner that its Jobs are waited for."""
        waiting: dict[str | None, list[str]] = {}
        for name, candidate in self._candidates.items():
            waiting.setdefault(candidate.owner, []).append(name)
        for owner, names in waiting.items():
            if owner not in self._said and (liveness := self._owners.known(owner)) is not None:
                self._said.add(owner)
                _logger.info("%s %s", _some(names), _WAITING[liveness].format(owner=owner or "unsaid"))
        self._said &= waiting.keys()


def _owner_of(job: JobView) -> str | None:
    return job.metadata.annotations.owner if job.metadata.annotations else None


def _some(names: Sequence[str]) -> str:
    return f"Job {names[0]}" if len(names) == 1 else f"{len(names)} Jobs, such as {names[0]},"


def _say_left(left: Mapping[IgnoreReason, Sequence[str]]) -> None:
    """Say once, and of many in one line, what is left alone; what is being deleted is nobody's news."""
    for reason, names in left.items():
        level = logging.DEBUG if reason is IgnoreReason.GOING else logging.INFO
        _logger.log(level, "Left alone: %s %s", _some(names), reason)
