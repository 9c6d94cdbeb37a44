"""Explains a task from the cluster alone: what it does, what it waits for, or why it ended. Pure.

The evaluation is the worker's own (``status``), but in the present tense, before any grace
period is over, and with the evidence. Ages compare the cluster's times with the reader's clock.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from oz_agent_worker.common.durations import short_span
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult, describe_exit_code, failed
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import PodView, last_pod
from oz_agent_worker.worker.backends.kubernetes.status.ending import end_of_task, surplus_pod
from oz_agent_worker.worker.backends.kubernetes.status.events import EventFacts, Refusal, ScaleUp
from oz_agent_worker.worker.backends.kubernetes.status.finding import PodProblem
from oz_agent_worker.worker.backends.kubernetes.status.job_state import JobState, TaskStage, job_state
from oz_agent_worker.worker.backends.kubernetes.status.messages import quote_cluster, quoted
from oz_agent_worker.worker.backends.kubernetes.status.own_end import task_end
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .task_jobs import TaskJob
from .task_state import State, is_ordinary, outcome_of, state_of, task_problems
from .timeline import TimelineEntry, timeline

__all__ = ["Explanation", "TaskSnapshot", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSnapshot:
    """What the cluster holds of one task at the time ``now``.

    ``events`` are those of the Job and of its Pods, deleted ones included; ``unread`` says why some
    are missing.
    """

    job: TaskJob
    pods: tuple[PodView, ...]
    events: tuple[EventView, ...]
    now: datetime
    policy: ObservationPolicy
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known of a task, for people and as JSON.

    ``reason`` is the one that the worker reports, or would; empty if nothing is wrong. ``headline``
    is one sentence. ``advice`` says what to do, if the headline does not. ``outlook`` says how long
    the worker lets a problem last. ``owner`` is the worker process that created the Job, if that is
    noted. Of a deleted Job (``deleted_jobs``) worker and execution are unknown, and the task's ID is as
    long as the Job's name holds it.
    """

    task_id: str
    execution_id: str = ""
    worker: str = ""
    owner: str = ""
    namespace: str
    job: str
    state: State
    reason: str = ""
    headline: str
    evidence: tuple[TimelineEntry, ...]
    advice: str = ""
    outlook: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """``says`` follows the task's ID in the headline."""

    says: str
    reason: str = ""
    advice: str = ""
    outlook: str = ""


def explain(snapshot: TaskSnapshot) -> Explanation:
    """Explain a task whose Job exists."""
    job = snapshot.job
    state = state_of(job, snapshot.pods, snapshot.policy)
    view = job_state(job, snapshot.pods)
    if view.stage is TaskStage.ENDED:
        answer = _explain_ended(view, snapshot)
    elif job.metadata.deletion_timestamp is not None:
        answer = _explain_deleted(snapshot)
    elif view.stage is TaskStage.ENDING:
        answer = _explain_ending(view, snapshot)
    else:
        answer = _explain_active(view, snapshot)
    return Explanation(
        task_id=job.key.task_id,
        execution_id=job.key.execution_id,
        worker=job.worker,
        owner=job.owner,
        namespace=job.metadata.namespace or "",
        job=job.metadata.name,
        state=state,
        reason=answer.reason,
        headline=f"Task {job.key.task_id} {answer.says}.",
        evidence=tuple(timeline(job, snapshot.pods, snapshot.events, snapshot.unread)),
        advice=answer.advice,
        outlook=answer.outlook,
    )


def _explain_ended(view: JobState, snapshot: TaskSnapshot) -> _Answer:
    final, outcome = view.final, outcome_of(view, snapshot.policy, snapshot.events)
    assert final is not None
    assert outcome is not None
    ago = _ago(snapshot, final.last_transition_time)
    if outcome.result is not TaskResult.SUCCEEDED:
        reason = outcome.reason.value if outcome.reason else ""
        return _Answer(f"failed{ago} ({reason}): {outcome.for_owner()}", reason)
    beside = "; its Job failed, because another container did" if not view.has_succeeded else ""
    return _Answer(
        f"succeeded{ago}{_on_node(view.last)}{beside}",
        advice="its Job goes when the control plane has the result; one that stays was not delivered"
        " yet, or cleanup is off",
    )


def _explain_deleted(snapshot: TaskSnapshot) -> _Answer:
    says = f"is being ended: its Job was deleted{_ago(snapshot, snapshot.job.metadata.deletion_timestamp)}"
    names = [pod.metadata.name for pod in snapshot.pods if not pod.has_ended]
    return _Answer(f"{says}, and its Pod {names[-1]} has its grace period to end" if names else says)


def _explain_ending(view: JobState, snapshot: TaskSnapshot) -> _Answer:
    """Explain a task that has ended, and whose Job has not."""
    end, outcome = end_of_task(view, snapshot.policy), outcome_of(view, snapshot.policy, snapshot.events)
    if end is not None and end.finding is not None and outcome is not None:
        reason = outcome.reason.value if outcome.reason else ""
        result = f"failed ({reason})" if reason else "succeeded"
        return _Answer(
            f"has {result}, and its Job has not ended: {end.finding.statement()}",
            reason,
            end.finding.advice,
            f"the worker reports the end when this has lasted {end.grace:g} s, and then deletes the Job",
        )
    problem = _worst_problem(snapshot)
    if problem is not None:
        return replace(problem, says=f"ends: {problem.says}")
    ended = task_end(view.last) if view.last is not None else None
    how = f": its container `task` ended with {describe_exit_code(ended.code)}" if ended is not None else ""
    return _Answer(f"is being ended{how}")


def _worst_problem(snapshot: TaskSnapshot) -> _Answer | None:
    problems = task_problems(snapshot.job, snapshot.pods, snapshot.policy, snapshot.events)
    answers = (_explain_problem(problem, facts, snapshot) for problem, facts in problems)
    return next(filter(None, answers), None)


def _explain_active(view: JobState, snapshot: TaskSnapshot) -> _Answer:
    suspended, runs = snapshot.job.condition("Suspended"), view.stage is TaskStage.RUNNING
    if suspended is not None and surplus_pod(view, snapshot.policy) is None:
        quote = quote_cluster(suspended.reason, suspended.message)
        return _Answer(
            f"runs, but its Job is suspended{quote}"
            if runs
            else f"is held back: its Job is suspended{quote}",
            advice="a queue such as Kueue does this until there is room: see the one that the Job's labels"
            " name",
        )
    problem = _worst_problem(snapshot)
    if problem is not None:
        return replace(problem, says=f"{'runs, but' if runs else 'waits:'} {problem.says}")
    pod = view.last
    if pod is None:
        advice = "if this continues, see whether kube-controller-manager runs"
        return _Answer("waits: its Job has no Pod yet", advice=advice)
    if pod.has_ended:
        quote = quote_cluster(pod.reason, pod.message)
        return _Answer(f"waits: its Pod {pod.metadata.name} failed{quote}, and its Job starts another")
    if runs:
        starts = {c.name: c.running.started_at for c in pod.container_statuses if c.running}
        started = starts.get(TASK_CONTAINER)
        since = f" for {short_span(_seconds_since(snapshot, started))}" if started else ""
        verdict = view.verdict
        ends = f"; its Job is about to end{quote_cluster(verdict.reason, verdict.message)}" if verdict else ""
        return _Answer(f"runs{since}{_on_node(pod)}, in Pod {pod.metadata.name}{ends}")
    if pod.node_name:
        return _Answer(f"starts{_on_node(pod)}: {_startup_step(pod)}")
    return _Answer(f"waits: its Pod {pod.metadata.name} has no node yet")


def _explain_problem(problem: PodProblem, facts: EventFacts, snapshot: TaskSnapshot) -> _Answer | None:
    """Describe a problem as it is now; ``None`` if it is the ordinary course of a task."""
    finding, pod = problem.finding, last_pod(snapshot.pods)
    advice, reason = "", problem.reason.value
    if is_ordinary(problem):
        if pod is None or not (facts.pulling or facts.warning):
            return None
        if facts.pulling:
            return _Answer(f"an image is being pulled{_on_node(pod)}: {_startup_step(pod)}")
        says = f"{_startup_step(pod)}{quoted(facts.warning)}"
    elif problem.key.endswith("/unschedulable"):
        says = finding.statement()
        advice = "wait for the node" if facts.scale_up is ScaleUp.COMING else finding.advice
    elif problem.key.endswith("/lost"):
        # A Pod that is being deleted is lost only when its grace period is over.
        ends = pod.metadata.deletion_timestamp if pod else None
        left = -_seconds_since(snapshot, ends) if ends else 0.0
        if left > 0:
            return _Answer(f"its Pod is being deleted, and has {short_span(left)} left to end")
        node = f" {pod.node_name}" if pod and pod.node_name else ""
        says = f"its node{node} does not say what became of its Pod"
    elif problem.reason is FailureReason.POD_MISSING and facts.refusal not in (Refusal.QUOTA, Refusal.FINAL):
        message = facts.refused or facts.warning
        if not message:
            return None
        says = f"its Job has no Pod yet{quoted(message)}"
    else:
        sentence = f"{finding.statement()}: {finding.advice}"
        says = failed(problem.reason, sentence, task_text=problem.text).for_owner()
    return _Answer(says, reason, advice, _outlook(problem, snapshot.policy))


def _outlook(problem: PodProblem, policy: ObservationPolicy) -> str:
    """Say how long the worker that follows the task tolerates a problem."""
    if problem.reason is FailureReason.UNSCHEDULABLE and policy.unschedulable_timeout <= 0:
        return "the worker waits without end (backend.kubernetes.unschedulable_timeout is 0)"
    if math.isinf(problem.grace):
        return ""
    if problem.grace <= 0:
        return "the worker fails the task at once"
    return f"the worker fails the task when this has lasted {problem.grace:g} s"


def _startup_step(pod: PodView) -> str:
    """Name the init container that runs, or the first container that has not started."""
    native = pod.native_sidecars()
    for container in pod.init_container_statuses:
        if container.running and container.name not in native:
            return f"its init container `{container.name}` runs"
    for container in pod.all_container_statuses:
        if not container.has_started:
            waiting = container.waiting
            why = quote_cluster(waiting.reason, waiting.message) if waiting else ""
            return f"its container `{container.name}` is not created yet{why}"
    return "its containers run"


def _seconds_since(snapshot: TaskSnapshot, time: str) -> float:
    return (snapshot.now - datetime.fromisoformat(time)).total_seconds()


def _ago(snapshot: TaskSnapshot, time: str | None) -> str:
    return f" {short_span(_seconds_since(snapshot, time))} ago" if time else ""


def _on_node(pod: PodView | None) -> str:
    return f" on node {pod.node_name}" if pod and pod.node_name else ""
