"""Why a task that should run has no running Pod: no Pod, no node, or no progress of its containers. Pure.

The status of a Pod that has a node says ``ContainerCreating`` or ``PodInitializing`` and nothing
else: only events say that a volume cannot be mounted or that the network has no address for it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, failed
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, ContainerStatus, JobView, PodView

from .events import NOT_READ, EventFacts, Refusal, ScaleUp
from .messages import capitalized, quote_cluster
from .policy import ObservationPolicy, PodProblem

__all__ = ["missing_pod_problems", "scheduling_problems", "startup_problems"]

#: Conditions of a Job that needs no Pod: it waits to be admitted (Kueue), or is about to end.
_NEEDS_NONE: Final = ("Suspended", "FailureTarget", "SuccessCriteriaMet", "Complete", "Failed")
#: Between two attempts of a Job that is retried, in seconds (Job controller, MaxJobPodFailureBackOff).
_LONGEST_PAUSE: Final = 600.0


def missing_pod_problems(
    job: JobView, pods: Sequence[PodView], policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield why a Job has no Pod that runs or will run.

    Only a Job that the Job controller has started counts: in a burst it is behind, and
    while it is away no Job gets a Pod. Neither is about the task. That it is behind shows in a
    Pod which has ended and is not counted: after an API server's restart its own watches may
    take a minute to come back, and a Pod that succeeded is all that the Job needed.
    """
    status = job.status
    if status is None or status.start_time is None or status.active:
        return
    if any(job.condition(kind) for kind in _NEEDS_NONE):
        return
    if any(pod.phase != "Failed" for pod in pods) or len(pods) > (status.failed or 0):
        return
    grace, why = _patience(policy, facts)
    if status.failed and facts.refusal is None:
        grace += _LONGEST_PAUSE
    outcome = failed(FailureReason.POD_MISSING, f"The Job has no Pod{why}")
    about = job.metadata.uid or ""
    yield PodProblem(f"{about}/pod_missing", grace, outcome, about, policy.ask_after)


def _patience(policy: ObservationPolicy, facts: EventFacts) -> tuple[float, str]:
    """How long the state may last, and how a message goes on that says so."""
    if facts.refusal is Refusal.QUOTA:
        why = (
            f": there is no room for it in the namespace's quota{facts.refused}. Raise the quota, or"
            " backend.kubernetes.unschedulable_timeout where room comes free when other tasks end"
        )
        return policy.unschedulable_timeout or math.inf, why
    if facts.refusal is Refusal.FINAL:
        why = (
            f": the cluster does not admit it{facts.refused}. Change backend.kubernetes.pod_template or the"
            " policy; `oz-agent-worker doctor` shows what tasks need"
        )
        return policy.refusal_grace, why
    words = facts.refused or facts.warning
    why = f" after {policy.stuck_timeout:g} s{words}: its events tell more (kubectl describe job)"
    return policy.stuck_timeout, why


def scheduling_problems(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield why the Pod has no node. One behind a scheduling gate is in no problem.

    An operator with ``unschedulable_timeout`` 0 has Pods wait for room as in a queue.
    """
    if policy.unschedulable_timeout <= 0 or pod.node_name:
        return
    condition = pod.condition("PodScheduled")
    reason = condition.reason if condition is not None else None
    if condition is not None and (condition.status != "False" or reason == "SchedulingGated"):
        return
    if condition is not None and reason == "Unschedulable":  # core/v1, PodReasonUnschedulable
        yield _unschedulable(pod, condition, policy, facts)
    else:
        yield _unnoticed(pod, condition, policy)


def _unschedulable(
    pod: PodView, condition: Condition, policy: ObservationPolicy, facts: EventFacts
) -> PodProblem:
    grace = policy.unschedulable_timeout
    scheduler = quote_cluster(None, condition.message)
    advice = "add capacity, or raise backend.kubernetes.unschedulable_timeout"
    if facts.scale_up is ScaleUp.REFUSED:
        grace = 0.0
        what = f"no node fits the Pod{scheduler} and the autoscaler adds none{facts.autoscaler}"
        advice = "let the Pod's requests, nodeSelector and tolerations fit a node group, or enlarge the group"
    elif facts.scale_up is ScaleUp.COMING:
        grace = max(grace, policy.scale_up_timeout)
        what = f"no node came within {grace:g} s{scheduler} though the autoscaler adds one{facts.autoscaler}"
        advice = "see why the node does not come, or raise backend.kubernetes.scale_up_timeout"
    else:
        what = f"the Pod found no node within {grace:g} s{scheduler}"
        if facts.autoscaler:
            what += f", and the autoscaler says{facts.autoscaler}"
    key = f"{pod.identity}/unschedulable"
    return PodProblem(key, grace, _failure(f"{what}: {advice}"), pod.identity, policy.ask_after)


def _unnoticed(pod: PodView, condition: Condition | None, policy: ObservationPolicy) -> PodProblem:
    words = quote_cluster(condition.reason, condition.message) if condition is not None else ""
    what = f"no scheduler found the Pod a node within {policy.stuck_timeout:g} s{words}"
    advice = "see whether the scheduler runs, and whether pod_template.schedulerName names one that does"
    return PodProblem(f"{pod.identity}/unscheduled", policy.stuck_timeout, _failure(f"{what}: {advice}"))


def _failure(text: str) -> Outcome:
    return failed(FailureReason.UNSCHEDULABLE, capitalized(text))


def startup_problems(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield what keeps a Pod from starting that has a node, of which no container says why.

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
        yield _mount(pod, policy, facts)
        return
    # Volumes come before the sandbox, and images after it: with a sandbox there is nothing to ask for.
    ask_after = policy.stuck_timeout if has_sandbox else policy.ask_after
    kind = "pulling" if facts.pulling else "starting"
    grace = math.inf if facts.pulling else policy.stuck_timeout
    yield PodProblem(
        f"{pod.identity}/{kind}/{done}",
        grace,
        failed(*_standstill(pod, container, policy, facts), words=facts.words),
        pod.identity,
        policy.stuck_timeout if facts.pulling else ask_after,
    )


def _mount(pod: PodView, policy: ObservationPolicy, facts: EventFacts) -> PodProblem:
    """kubelet, FailedMount; attach-detach controller, FailedAttachVolume. Each is tried again."""
    text = (
        f"The Pod's volumes cannot be mounted{facts.mount}: check that the Secrets, ConfigMaps and volume"
        " claims which its volumes name exist, and that the node can attach them"
    )
    outcome = failed(FailureReason.VOLUME_MOUNT, text)
    return PodProblem(f"{pod.identity}/volume_mount", policy.pull_grace, outcome, pod.identity, 0.0)


def _standstill(
    pod: PodView, container: ContainerStatus | None, policy: ObservationPolicy, facts: EventFacts
) -> tuple[FailureReason, str]:
    time = f"{policy.stuck_timeout:g} s"
    namespace = f" -n {pod.metadata.namespace}" if pod.metadata.namespace else ""
    look = f"its events tell more (kubectl describe pod{namespace} {pod.metadata.name})"
    if container is None:
        what = f"the node {pod.node_name} has not taken the Pod up in {time}{facts.warning}"
        return FailureReason.NODE_LOST, capitalized(f"{what}: see whether the node is ready")
    if container in pod.init_container_statuses:
        what = f"init container `{container.name}` has not started in {time}{facts.warning}"
        return FailureReason.INIT_STUCK, capitalized(f"{what}: {look}")
    what = f"container `{container.name}` has not been created in {time}{facts.warning}"
    return FailureReason.CONTAINER_CREATE, capitalized(f"{what}: {look}")


def _stage(pod: PodView) -> tuple[int, ContainerStatus | None] | None:
    """How many init containers are past, and which container waits; ``None`` while one works.

    The container is ``None`` where the node has not said anything of the Pod.
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
