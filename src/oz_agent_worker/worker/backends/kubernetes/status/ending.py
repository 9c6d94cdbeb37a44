"""How a task ended, and how long its Job may take to say so; a Pod too many. Pure.

The Job controller's word counts where it comes. Where it stays away, the end of the container ``task``,
of the Pod, or the announced end decides after a grace.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, describe_exit_code, succeeded
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import PodView, Terminated

from .failure import explain_failure
from .finding import Finding, PodProblem
from .job_state import JobState
from .messages import quote_cluster
from .own_end import ended_by_deletion, own_end
from .policy import ObservationPolicy

__all__ = ["TaskEnd", "end_of_task", "surplus_pod"]

#: Kubernetes' default of a Pod's ``terminationGracePeriodSeconds``.
_POD_GRACE = 30


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ends if its Job says nothing else within ``grace`` seconds.

    ``key`` names the state across observations. ``finding`` says what the Job waits for; ``None`` where
    the Job has ended. ``undisturbed``: a deletion of the Job or its Pod is no cause of it.
    """

    outcome: Outcome
    grace: float = 0.0
    key: str = ""
    finding: Finding | None = None
    undisturbed: bool = True


def end_of_task(
    state: JobState, policy: ObservationPolicy, events: Iterable[EventView] = ()
) -> TaskEnd | None:
    """Return how the task ends, as far as that is certain; ``None`` while it goes on.

    ``events`` are about the Job and its Pods: they explain the end of a Job without a Pod.
    """
    if state.final is not None:
        return TaskEnd(_outcome(state, events))
    pod, own = state.last, state.own_end
    if state.verdict is not None and not state.may_run:
        key = f"{state.job.metadata.uid}/announced"
        return TaskEnd(_outcome(state, events), policy.announced_grace, key, _announced(state))
    if pod is None:
        return None
    undisturbed = own is not None and not ended_by_deletion(pod, own, state.cause)
    if pod.has_ended:
        # With retries, a Pod that failed for another cause than the task's own end has a successor.
        if own is None and pod.phase == "Failed" and state.retries:
            return None
        key = f"{pod.identity}/ended"
        return TaskEnd(_outcome(state, events), policy.controller_timeout, key, _unheard(pod), undisturbed)
    if own is None:
        return None
    grace = pod.spec.termination_grace_period_seconds if pod.spec else None
    teardown = max(policy.teardown_grace, float(_POD_GRACE if grace is None else grace))
    return TaskEnd(
        _outcome(state, events), teardown, f"{pod.identity}/task", _goes_on(state, own), undisturbed
    )


def _outcome(state: JobState, events: Iterable[EventView]) -> Outcome:
    """The outcome if nothing follows."""
    pod = state.last
    ended_well = pod is not None and pod.phase == "Succeeded" and state.own_end is None
    if state.has_succeeded or (state.verdict is None and ended_well):
        return succeeded()
    return explain_failure(state.cause, state.pods, events)


def _announced(state: JobState) -> Finding:
    verdict = state.verdict
    assert verdict is not None
    quote = f"{verdict.type}{quote_cluster(verdict.reason, verdict.message)}"
    return Finding(
        "it has announced its end, and no Pod of it runs",
        quote,
        "see what keeps the finalizer batch.kubernetes.io/job-tracking on its Pod, such as a webhook that"
        " refuses changes of Pods, and whether kube-controller-manager runs",
    )


def _unheard(pod: PodView) -> Finding:
    return Finding(
        f"its Pod {pod.metadata.name} has ended ({pod.phase}), and the Job controller has not taken note",
        advice="see whether kube-controller-manager runs",
    )


def _goes_on(state: JobState, own: Terminated) -> Finding:
    names = [f"`{name}`" for name in state.neighbours()]
    verb = "runs" if len(names) == 1 else "run"
    beside = f"; beside it {', '.join(names)} still {verb}" if names else "; its Pod has not ended yet"
    return Finding(
        f"its container `{TASK_CONTAINER}` ended with {describe_exit_code(own.code)}{beside}",
        advice="make a container that serves the task an init container with restartPolicy: Always (a native"
        " sidecar), which ends with the task"
        if names
        else "",
    )


def surplus_pod(state: JobState, policy: ObservationPolicy) -> PodProblem | None:
    """Return the problem of a Job that has a Pod more than its task may be started.

    A Pod counts once a container of it has run, or may have: one that is gone from its node without an
    end. While the first goes on, a second that has not started is left to the Job controller for a
    while: it made the second because the answer to the first creation was lost, and takes one away.
    """
    if len(state.pods) + state.replaced <= 1:
        return None
    worked = [pod for pod in state.pods if pod.has_started]
    fresh = [] if state.final is not None else [pod for pod in state.pods if _may_start(pod)]
    ended = any(own_end(pod, state.cause) is not None for pod in worked[:-1] or (worked if fresh else ()))
    allowed = 1 + (0 if ended else state.retries)
    starts = state.replaced + len(worked)
    if starts + min(len(fresh), 1) <= allowed:
        return None
    goes_on = any(not pod.has_ended and not pod.metadata.deletion_timestamp for pod in worked)
    grace = policy.surplus_grace if starts <= allowed and goes_on else 0.0
    second = next(reversed(fresh or worked), None)
    name = f", {second.metadata.name}," if second is not None else ""
    times = "once" if allowed == 1 else f"{allowed} times"
    return PodProblem(
        f"{state.job.metadata.uid}/surplus",
        grace,
        FailureReason.POD_REPLACED,
        Finding(
            f"the Job controller made another Pod{name} though the task may be started {times} only",
            advice="find out who removes Pods by force or takes away their finalizers, or whether the API"
            " server was away when the first was made, and run it again",
        ),
    )


def _may_start(pod: PodView) -> bool:
    return not (pod.has_started or pod.has_ended or pod.metadata.deletion_timestamp)
