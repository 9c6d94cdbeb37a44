"""Why a task that should run has no running Pod: no Pod, no node, or no progress of its containers. Pure.

The status of a Pod that has a node says ``ContainerCreating`` or ``PodInitializing`` and nothing
else: only events say that a volume cannot be mounted or that the network has no address for it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, ContainerStatus, JobView, PodView

from .events import NOT_READ, EventFacts, Refusal, ScaleUp
from .finding import Finding, PodProblem
from .messages import cluster_message, quoted
from .policy import ObservationPolicy

__all__ = ["missing_pod_problems", "no_node", "scheduling_problems", "startup_problems"]

#: Conditions of a Job that needs no Pod: it waits to be admitted (Kueue), or is about to end.
_NEEDS_NO_POD: Final = ("Suspended", "FailureTarget", "SuccessCriteriaMet", "Complete", "Failed")
#: The longest pause between two Pods of a Job, in seconds (Job controller, MaxJobPodFailureBackOff).
_LONGEST_PAUSE: Final = 600.0


def missing_pod_problems(
    job: JobView, pods: Sequence[PodView], policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield why a Job has no Pod that runs or will run; ``facts`` are from the Job's events.

    Nothing is wrong while the Job controller is behind. It may not have started the Job yet, as in a
    burst. Or it has not counted a Pod that ended: after a restart of the API server its watches may
    take a minute to come back, and a Pod that succeeded is all that the Job needed.
    """
    status = job.status
    if status is None or status.start_time is None or status.active:
        return
    if any(job.condition(kind) for kind in _NEEDS_NO_POD):
        return
    if any(pod.phase != "Failed" for pod in pods) or len(pods) > (status.failed or 0):
        return
    grace, finding = _no_pod(policy, facts)
    if status.failed and facts.refusal is None:
        grace += _LONGEST_PAUSE
    about = job.metadata.uid or ""
    key = f"{about}/pod_missing"
    yield PodProblem(key, grace, FailureReason.POD_MISSING, finding, about, policy.ask_after)


def _no_pod(policy: ObservationPolicy, facts: EventFacts) -> tuple[float, Finding]:
    """How long the state may last, in seconds, and what it is."""
    if facts.refusal is Refusal.QUOTA:
        return policy.unschedulable_timeout or math.inf, Finding(
            "the Job has no Pod, because there is no room for it in the namespace's quota",
            facts.refused,
            "raise the quota, or backend.kubernetes.unschedulable_timeout where room comes free when other"
            " tasks end",
        )
    if facts.refusal is Refusal.FINAL:
        return policy.refusal_grace, Finding(
            "the Job has no Pod, because the cluster does not admit it",
            facts.refused,
            "change backend.kubernetes.pod_template or the policy; `oz-agent-worker doctor` shows what tasks"
            " need",
        )
    return policy.stuck_timeout, Finding(
        "the Job has no Pod",
        facts.refused or facts.warning,
        "its events show more (kubectl describe job)",
        duration=f" after {policy.stuck_timeout:g} s",
    )


def scheduling_problems(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield why the Pod has no node. A Pod behind a scheduling gate has no problem.

    With an ``unschedulable_timeout`` of 0, Pods wait for room as in a queue.
    """
    if policy.unschedulable_timeout <= 0 or pod.node_name:
        return
    condition = pod.condition("PodScheduled")
    reason = condition.reason if condition is not None else None
    if condition is not None and (condition.status != "False" or reason == "SchedulingGated"):
        return
    if condition is not None and reason == "Unschedulable":  # core/v1, PodReasonUnschedulable
        yield _unschedulable(pod, condition, policy, facts)
        return
    finding = Finding(
        "no scheduler has looked at the Pod",
        cluster_message(reason, condition.message) if condition is not None else "",
        "see whether the scheduler runs, and whether pod_template.schedulerName names one that does",
        duration=f" within {policy.stuck_timeout:g} s",
    )
    key = f"{pod.identity}/unscheduled"
    yield PodProblem(key, policy.stuck_timeout, FailureReason.UNSCHEDULABLE, finding)


def no_node(whose: str, seconds: float | None = None) -> str:
    """Say that no node takes ``whose`` Pod, such as ``its``, within so many seconds."""
    return f"no node takes {whose} Pod" + (f" within {seconds:g} s" if seconds else "")


def _unschedulable(
    pod: PodView, condition: Condition, policy: ObservationPolicy, facts: EventFacts
) -> PodProblem:
    grace, more = policy.unschedulable_timeout, ""
    advice = "add capacity, change what the task asks for, or raise backend.kubernetes.unschedulable_timeout"
    if facts.scale_up is ScaleUp.REFUSED:
        grace, more = 0.0, f", and the autoscaler adds none{quoted(facts.autoscaler)}"
        advice = "let the Pod's requests, nodeSelector and tolerations fit a node group, or enlarge the group"
    elif facts.scale_up is ScaleUp.COMING:
        grace = max(grace, policy.scale_up_timeout)
        more = f", and the autoscaler adds one{quoted(facts.autoscaler)}"
        advice = "see why the node does not come, or raise backend.kubernetes.scale_up_timeout"
    elif facts.autoscaler:
        more = f"; the autoscaler says{quoted(facts.autoscaler)}"
    duration = f" within {grace:g} s" if grace else ""
    finding = Finding(no_node("its"), cluster_message(None, condition.message), advice, duration, more)
    key = f"{pod.identity}/unschedulable"
    return PodProblem(key, grace, FailureReason.UNSCHEDULABLE, finding, pod.identity, policy.ask_after)


def startup_problems(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield why a Pod with a node does not start, where no container's status says why.

    A container that runs before the task's, such as the setup command, is progress, however
    long it takes; so is an image that is being pulled.
    """
    if pod.phase not in {"", "Pending"} or not pod.node_name:
        return
    stage = _stage(pod)
    if stage is None:
        return
    done, container = stage
    sandbox = pod.condition("PodReadyToStartContainers")
    has_sandbox = sandbox is not None and sandbox.status == "True"
    if facts.mount and not has_sandbox:
        # kubelet, FailedMount; attach-detach controller, FailedAttachVolume. Both try again.
        finding = Finding(
            "the Pod's volumes cannot be mounted",
            facts.mount,
            "check that the Secrets, ConfigMaps and volume claims which its volumes name exist, and that the"
            " node can attach them",
        )
        key, reason = f"{pod.identity}/volume_mount", FailureReason.VOLUME_MOUNT
        yield PodProblem(key, policy.pull_grace, reason, finding, pod.identity, ask_after=0.0)
        return
    # Volumes are mounted before the sandbox is created, and images pulled after it: the events of a Pod
    # with a sandbox are not worth an early request.
    reason, finding = _no_progress(pod, container, policy, facts)
    yield PodProblem(
        f"{pod.identity}/{'pulling' if facts.pulling else 'starting'}/{done}",
        math.inf if facts.pulling else policy.stuck_timeout,
        reason,
        finding,
        pod.identity,
        policy.stuck_timeout if facts.pulling or has_sandbox else policy.ask_after,
        facts.task_text,
    )


def _no_progress(
    pod: PodView, container: ContainerStatus | None, policy: ObservationPolicy, facts: EventFacts
) -> tuple[FailureReason, Finding]:
    namespace = f" -n {pod.metadata.namespace}" if pod.metadata.namespace else ""
    advice = f"its events show more (kubectl describe pod{namespace} {pod.metadata.name})"
    if container is None:
        reason, what = FailureReason.NODE_LOST, f"the node {pod.node_name} has not taken the Pod up"
        advice = "see whether the node is ready"
    elif container in pod.init_container_statuses:
        reason, what = FailureReason.INIT_STUCK, f"init container `{container.name}` has not started"
    else:
        reason, what = FailureReason.CONTAINER_CREATE, f"container `{container.name}` has not been created"
    return reason, Finding(what, facts.warning, advice, duration=f" in {policy.stuck_timeout:g} s")


def _stage(pod: PodView) -> tuple[int, ContainerStatus | None] | None:
    """Return how many init containers have ended, and the container that waits; ``None`` while one runs.

    The container is ``None`` where the node has reported nothing of the Pod.
    """
    native = pod.native_sidecars()
    for done, init in enumerate(pod.init_container_statuses):
        if init.running is not None and init.name not in native:
            return None
        if not init.has_started:
            return done, init
    waiting = next((c for c in pod.container_statuses if not c.has_started), None)
    if waiting is None and pod.container_statuses:
        return None
    return len(pod.init_container_statuses), waiting
