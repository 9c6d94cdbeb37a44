"""Evaluates the state of a task's Job and Pods. Pure.

Only evidence about the task itself fails it. A task ends with a condition of its Job, or, where that
stays away, by its own container or Pod after a grace (``ending``). Before, a Pod with a problem fails
its task when the problem has lasted too long. The worker measures that by its own clock, from when it
first saw the state: a skew of the API server's clock must not fail a task. The caller keeps these
times; ``Evaluation.problems`` says which to keep.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView

from .ending import TaskEnd, end_of_task, surplus_pod
from .events import NOT_READ, EventFacts
from .finding import PodProblem
from .job_state import TaskStage, job_state
from .pending import missing_pod_problems
from .policy import ObservationPolicy
from .waiting import pod_problems

__all__ = ["Evaluation", "Observation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Observation:
    """The latest known state of one execution: its Job, and the Pods of that Job.

    ``events`` are the facts from the object whose events were last read: ``NOT_READ`` where none were
    read, ``None`` where they cannot be read. ``replaced`` is how many Pods of the Job are gone that may
    have started work.
    """

    job: JobView | None
    pods: tuple[PodView, ...] = ()
    events: EventFacts | None = None
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The meaning of an observation.

    ``outcome`` is set once the task has ended or cannot run. ``end`` is how it ends, or will end when a
    grace is over: then nothing of the task can start any more. ``recheck_at`` is when, in the seconds
    of ``now``, the same observation may mean something else; ``None`` where time alone changes
    nothing. ``problems`` are the keys of the present problems. ``read_events_of`` is the UID of the
    object whose events should be read, empty where none should.
    """

    outcome: Outcome | None
    recheck_at: float | None
    stage: TaskStage
    problems: frozenset[str] = frozenset()
    read_events_of: str = ""
    end: TaskEnd | None = None


def evaluate(
    observation: Observation, first_seen: Mapping[str, float], now: float, policy: ObservationPolicy
) -> Evaluation:
    """Evaluate an observation.

    ``first_seen`` holds when each problem was first seen, by key; other problems begin at ``now``.
    Both are seconds of the worker's monotonic clock. A Job that is missing means nothing here: the
    watch may not have reported it yet.
    """
    job = observation.job
    if job is None:
        return Evaluation(None, None, TaskStage.CREATING)
    state = job_state(job, observation.pods, observation.replaced)
    surplus = surplus_pod(state, policy)
    if surplus is not None and surplus.grace <= 0:
        return Evaluation(surplus.outcome, None, state.stage, frozenset({surplus.key}))
    end = end_of_task(state, policy)
    if end is not None:
        return _evaluate_end(end, first_seen, now, state.stage)
    problems = _problems(job, observation, policy)
    if surplus is not None:
        problems.append(surplus)
    if not problems:
        return Evaluation(None, None, state.stage)
    return _evaluate_problems(problems, first_seen, now, state.stage, observation.events, policy)


def _evaluate_end(end: TaskEnd, first_seen: Mapping[str, float], now: float, stage: TaskStage) -> Evaluation:
    """End the task when its Job has had its time to say so."""
    over_at = first_seen.get(end.key, now) + end.grace
    keys = frozenset({end.key} if end.key else ())
    if over_at <= now:
        return Evaluation(end.outcome, None, stage, keys, end=end)
    return Evaluation(None, over_at, stage, keys, end=end)


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
    stage: TaskStage,
    events: EventFacts | None,
    policy: ObservationPolicy,
) -> Evaluation:
    """Fail the task for the problem whose grace was over first; else say when to check again.

    If events show more about a problem, they are read once more when its grace is over: what
    they reported before may have passed.
    """
    keys = frozenset(problem.key for problem in problems)
    moments: list[float] = []
    ends: list[tuple[float, PodProblem]] = []
    read_events_of = ""
    for problem in problems:
        since = first_seen.get(problem.key, now)
        over_at = since + problem.grace
        if problem.about and events is not None:
            events_due = since + min(problem.ask_after, problem.grace / 2)
            read_events_of = read_events_of or (problem.about if events_due <= now else "")
            moments.append(events_due)
            if events.about != problem.about or events.read_at < over_at:
                moments.append(over_at)
                over_at += policy.ask_patience
        ends.append((over_at, problem))
    first, worst = min(ends, key=lambda end: end[0])
    if first <= now:
        return Evaluation(worst.outcome, None, stage, keys)
    coming = [moment for moment in (first, *moments) if now < moment < math.inf]
    return Evaluation(None, min(coming, default=None), stage, keys, read_events_of)
