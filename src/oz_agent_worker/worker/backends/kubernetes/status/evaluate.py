"""What a Job and its Pods say of a task: pure judgement over observed state.

Only evidence about the task itself fails it. The Job's own conditions are the end of
every task; before that, a Pod with a problem fails its task when the problem has lasted too
long. How long is measured by the worker's own clock, from when it first saw the problem:
the clock of the API server may be another, and a skew must not fail a task. The caller
keeps these times, ``Evaluation.problems`` tells it which to keep.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from oz_agent_worker.protocol.outcome import Outcome, succeeded
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView, last_pod

from .events import NOT_READ, EventFacts
from .failure import explain_failure
from .finding import PodProblem
from .pending import missing_pod_problems
from .policy import ObservationPolicy
from .waiting import pod_problems

__all__ = ["Evaluation", "Observation", "ObservationPolicy", "TaskPhase", "evaluate"]

TaskPhase = Literal["creating", "pending", "running", "finished"]


@dataclass(frozen=True, slots=True)
class Observation:
    """The latest known state of one execution: its Job, and the Pods of that Job.

    ``events`` is what the events say of the object about which they were last asked,
    ``NOT_READ`` where they were not, ``None`` where nobody can ask.
    """

    job: JobView | None
    pods: tuple[PodView, ...] = ()
    events: EventFacts | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an observation means.

    ``outcome`` is set once the task has ended or cannot run. ``look_again_at`` is when,
    in the epoch seconds of ``now``, the same observation would fail the task, ``None``
    where time alone changes nothing. ``problems`` are the keys of what is wrong. ``ask`` is
    the UID of the object whose events should be read, empty where none should.
    """

    outcome: Outcome | None
    look_again_at: float | None
    phase: TaskPhase
    problems: frozenset[str] = frozenset()
    ask: str = ""


_CREATING: Final = Evaluation(None, None, "creating")
_PENDING: Final = Evaluation(None, None, "pending")
_RUNNING: Final = Evaluation(None, None, "running")


def evaluate(
    observation: Observation, first_seen: Mapping[str, float], now: float, policy: ObservationPolicy
) -> Evaluation:
    """Judge an observation.

    ``first_seen`` holds when each problem was first seen, by key; a problem that is not
    in it begins at ``now``. Both are epoch seconds of the worker's own clock. A Job that is
    missing says nothing here: that is not yet evidence.
    """
    job = observation.job
    if job is None:
        return _CREATING
    ended = _job_end(job, observation.pods)
    if ended is not None:
        return Evaluation(ended, None, "finished")
    problems = _problems(job, observation, policy)
    last = last_pod(observation.pods)
    started = last is not None and last.phase not in {"", "Pending"}
    if not problems:
        return _RUNNING if started else _PENDING
    phase: TaskPhase = "running" if started else "pending"
    return _evaluate_problems(problems, first_seen, now, phase, observation.events, policy)


def _job_end(job: JobView, pods: tuple[PodView, ...]) -> Outcome | None:
    """batch/v1, JobCondition ``Complete`` and ``Failed``: exactly one, once, and for good."""
    if job.condition("Complete") is not None:
        return succeeded()
    failure = job.condition("Failed")
    return explain_failure(failure, pods) if failure is not None else None


def _problems(job: JobView, observation: Observation, policy: ObservationPolicy) -> list[PodProblem]:
    events = observation.events or NOT_READ

    def facts(about: str | None) -> EventFacts:
        return events if events.about == about else NOT_READ

    found = [*missing_pod_problems(job, observation.pods, policy, facts(job.metadata.uid))]
    for pod in observation.pods:
        found += pod_problems(pod, policy, facts(pod.identity))
    return found


def _evaluate_problems(
    problems: list[PodProblem],
    first_seen: Mapping[str, float],
    now: float,
    phase: TaskPhase,
    events: EventFacts | None,
    policy: ObservationPolicy,
) -> Evaluation:
    """Fail the task for the problem whose grace was over first; else say when one will be.

    Where events tell more of a problem, they are read once more when its grace is over:
    what they said before may have passed.
    """
    keys = frozenset(problem.key for problem in problems)
    moments: list[float] = []
    ends: list[tuple[float, PodProblem]] = []
    ask = ""
    for problem in problems:
        since = first_seen.get(problem.key, now)
        over_at = since + problem.grace
        if problem.about and events is not None:
            asks_at = since + min(problem.ask_after, problem.grace / 2)
            ask = ask or (problem.about if asks_at <= now else "")
            moments.append(asks_at)
            if events.about != problem.about or events.read_at < over_at:
                moments.append(over_at)
                over_at += policy.ask_patience
        ends.append((over_at, problem))
    first, worst = min(ends, key=lambda end: end[0])
    if first <= now:
        return Evaluation(worst.outcome, None, phase, keys)
    coming = [moment for moment in (first, *moments) if now < moment < math.inf]
    return Evaluation(None, min(coming, default=None), phase, keys, ask)
