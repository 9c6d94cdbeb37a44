"""What a task does, what it waits for or why it ended: one answer, from the cluster alone. Pure.

The judgement is the one that the worker reports by (``problems``, ``absence``,
``postmortem``); here it is told before any grace is over, in the present tense, and with
the evidence. Ages compare the cluster's times with the reader's clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from oz_agent_worker.common.durations import short_span
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, EventView, PodView, last_pod
from oz_agent_worker.worker.backends.kubernetes.status.events import EventFacts, Refusal, ScaleUp
from oz_agent_worker.worker.backends.kubernetes.status.failure import explain_failure
from oz_agent_worker.worker.backends.kubernetes.status.finding import PodProblem
from oz_agent_worker.worker.backends.kubernetes.status.messages import quote_cluster, quoted
from oz_agent_worker.worker.backends.kubernetes.status.pending import missing_pod_problems
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.waiting import pod_problems

from .task_jobs import TaskJob
from .task_state import State, facts_about, is_ordinary, state_of, with_endless_wait_as_problem
from .timeline import TimelineEntry, evidence_lines

__all__ = ["Explanation", "TaskSnapshot", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSnapshot:
    """What the cluster holds of one task at the time ``now``.

    ``events`` are those of the Job and of its Pods, gone ones included; ``unread`` says why they are
    not all.
    """

    job: TaskJob
    pods: tuple[PodView, ...]
    events: tuple[EventView, ...]
    now: datetime
    policy: ObservationPolicy
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One answer. ``reason`` is the word that the worker reports with, or would; empty where all is well.

    ``headline`` is one sentence; ``advice`` says what to do, and is empty where the headline
    does; ``outlook`` says how long the worker looks on at a problem. ``owner`` is the worker
    process that created the Job, empty where that is not noted. Of a Job that is gone
    (``traces``) neither worker nor execution is known, and of the task's ID what the name holds.
    """

    task_id: str
    execution_id: str
    worker: str
    owner: str
    namespace: str
    job: str
    state: State
    reason: str
    headline: str
    evidence: tuple[TimelineEntry, ...]
    advice: str
    outlook: str


@dataclass(frozen=True, slots=True)
class _Answer:
    says: str
    reason: str = ""
    advice: str = ""
    outlook: str = ""


def explain(facts: TaskSnapshot) -> Explanation:
    """Explain a task."""
    job = facts.job
    state = state_of(job, facts.pods)
    answer = _answer(state, facts)
    return Explanation(
        task_id=job.key.task_id,
        execution_id=job.key.execution_id,
        worker=job.worker,
        owner=job.owner,
        namespace=job.metadata.namespace or "",
        job=job.metadata.name,
        state=state,
        reason=answer.reason,
        headline=f"Task {job.key.task_id} {answer.says}",
        evidence=tuple(evidence_lines(job, facts.pods, facts.events, facts.unread)),
        advice=answer.advice,
        outlook=answer.outlook,
    )


def _answer(state: State, facts: TaskSnapshot) -> _Answer:
    match state:
        case State.SUCCEEDED:
            return _succeeded(facts)
        case State.FAILED:
            return _failed(facts)
        case State.ENDING:
            return _ending(facts)
        case _:
            return _active(state, facts)


def _succeeded(facts: TaskSnapshot) -> _Answer:
    ended = facts.job.condition("Complete")
    advice = (
        "its Job goes when the control plane has the result; one that stays was not delivered yet, or"
        " cleanup is off"
    )
    return _Answer(f"succeeded{_ago(facts, _when(ended))}{_on(last_pod(facts.pods))}.", advice=advice)


def _failed(facts: TaskSnapshot) -> _Answer:
    failure = facts.job.condition("Failed")
    assert failure is not None
    outcome = explain_failure(failure, facts.pods, facts.events)
    reason = outcome.reason.value if outcome.reason else ""
    ago = _ago(facts, _when(failure))
    return _Answer(f"failed{ago} ({reason}): {outcome.for_owner()}.", reason)


def _ending(facts: TaskSnapshot) -> _Answer:
    ends = facts.job.metadata.deletion_timestamp
    going = [pod for pod in facts.pods if pod.phase not in {"Succeeded", "Failed"}]
    says = f"is being ended: its Job was deleted{_ago(facts, ends)}"
    if going:
        says += f", and its Pod {going[-1].metadata.name} has its grace period to end"
    return _Answer(f"{says}.")


def _active(state: State, facts: TaskSnapshot) -> _Answer:
    held = facts.job.condition("Suspended")
    if held is not None:
        return _suspended(held)
    verb = "runs, but" if state is State.RUNNING else "waits:"
    for problem, told in _problems(facts):
        answer = _describe_problem(problem, told, facts)
        if answer is not None:
            return replace(answer, says=f"{verb} {answer.says}")
    pod = last_pod(facts.pods)
    if pod is None:
        return _Answer("waits: its Job has no Pod yet.", advice=_WHEN_IT_STAYS)
    if state is State.RUNNING:
        started = min(_starts(pod), default=None)
        return _Answer(f"runs{_for(facts, started)}{_on(pod)}, in Pod {pod.metadata.name}.")
    if pod.node_name:
        return _Answer(f"starts{_on(pod)}: {_stage(pod)}.")
    return _Answer(f"waits: its Pod {pod.metadata.name} has no node yet.")


def _suspended(held: Condition) -> _Answer:
    return _Answer(
        f"is held back: its Job is suspended{quote_cluster(held.reason, held.message)}.",
        advice="a queue such as Kueue does this until there is room: see the one that the Job's labels name",
    )


def _problems(facts: TaskSnapshot) -> list[tuple[PodProblem, EventFacts]]:
    """What is wrong, with what the events say of it; the worst first."""
    policy = with_endless_wait_as_problem(facts.policy)

    of_job = facts_about(facts.job.metadata.uid, facts.events)
    found = [(t, of_job) for t in missing_pod_problems(facts.job, facts.pods, policy, of_job)]
    for pod in facts.pods:
        of_pod = facts_about(pod.identity, facts.events)
        found += [(t, of_pod) for t in pod_problems(pod, policy, of_pod)]
    # That a Pod has not started yet is the least of its problems.
    return sorted(found, key=lambda pair: (is_ordinary(pair[0]), pair[0].grace))


def _describe_problem(problem: PodProblem, told: EventFacts, facts: TaskSnapshot) -> _Answer | None:
    """Say a problem as it is now; ``None`` where it is the ordinary course of things."""
    word = problem.reason.value
    outlook = _outlook(problem, facts.policy)
    if is_ordinary(problem):
        pod = last_pod(facts.pods)
        if pod is None or not (told.pulling or told.warning):
            return None
        if told.pulling:
            return _Answer(f"an image is being pulled{_on(pod)}: {_stage(pod)}.")
        return _Answer(f"{_stage(pod)}{quoted(told.warning)}.", word, outlook=outlook)
    finding = problem.finding
    if problem.key.endswith("/unschedulable"):
        advice = "wait for the node" if told.scale_up is ScaleUp.COMING else finding.advice
        return _Answer(f"{finding.statement()}.", word, advice, outlook)
    if problem.key.endswith("/lost"):
        return _lost(facts, word, outlook)
    if problem.reason is FailureReason.POD_MISSING and told.refusal not in (Refusal.QUOTA, Refusal.FINAL):
        words = told.refused or told.warning
        return _Answer(f"its Job has no Pod yet{quoted(words)}.", word, outlook=outlook) if words else None
    message = failed(problem.reason, f"{finding.statement()}: {finding.advice}", words=problem.text)
    return _Answer(f"{message.for_owner()}.", word, outlook=outlook)


def _lost(facts: TaskSnapshot, word: str, outlook: str) -> _Answer:
    """A Pod that was told to end is lost only when its time to do so is over."""
    pod = last_pod(facts.pods)
    ends = pod.metadata.deletion_timestamp if pod else None
    left = -_seconds(facts, ends) if ends else 0.0
    if left > 0:
        return _Answer(f"its Pod was told to end, and has {short_span(left)} left to do so.")
    node = f" {pod.node_name}" if pod and pod.node_name else ""
    return _Answer(f"its node{node} does not say what became of its Pod.", word, outlook=outlook)


def _outlook(problem: PodProblem, policy: ObservationPolicy) -> str:
    """How long the worker that has the task in hand looks on."""
    if problem.reason is FailureReason.UNSCHEDULABLE and policy.unschedulable_timeout <= 0:
        return "the worker waits without end (backend.kubernetes.unschedulable_timeout is 0)"
    if math.isinf(problem.grace):
        return ""
    if problem.grace <= 0:
        return "the worker fails the task at once"
    return f"the worker fails the task when this has lasted {problem.grace:g} s"


_WHEN_IT_STAYS = "where this lasts, see whether kube-controller-manager runs"


def _stage(pod: PodView) -> str:
    """The first container that is neither done nor runs, or what runs before the task."""
    native = pod.native_sidecars()
    for container in pod.init_container_statuses:
        if container.running and container.name not in native:
            return f"its init container `{container.name}` runs"
    for container in pod.all_container_statuses:
        if not container.has_started:
            reason = (
                quote_cluster(container.waiting.reason, container.waiting.message)
                if container.waiting
                else ""
            )
            return f"its container `{container.name}` is not created yet{reason}"
    return "its containers run"


def _starts(pod: PodView) -> Sequence[str]:
    running = (container.running for container in pod.container_statuses)
    return [state.started_at for state in running if state and state.started_at]


def _when(condition: Condition | None) -> str | None:
    return condition.last_transition_time if condition else None


def _seconds(facts: TaskSnapshot, time: str) -> float:
    return (facts.now - datetime.fromisoformat(time)).total_seconds()


def _ago(facts: TaskSnapshot, time: str | None) -> str:
    return f" {short_span(_seconds(facts, time))} ago" if time else ""


def _for(facts: TaskSnapshot, time: str | None) -> str:
    return f" for {short_span(_seconds(facts, time))}" if time else ""


def _on(pod: PodView | None) -> str:
    return f" on node {pod.node_name}" if pod and pod.node_name else ""
