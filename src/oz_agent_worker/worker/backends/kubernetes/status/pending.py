"""Pods that have a node and do not get as far as their containers. Pure.

Their status says ``ContainerCreating`` or ``PodInitializing`` and nothing else: that a
volume cannot be mounted, or that the network gives the Pod no address, is told by events.
"""

import math
from collections.abc import Iterator

from oz_agent_worker.protocol.outcome import FailureReason, failed
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, PodView

from .events import NOT_READ, EventFacts
from .messages import sentence
from .policy import ObservationPolicy, Trouble

__all__ = ["startup_troubles"]


def startup_troubles(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[Trouble]:
    """Yield what keeps a Pod from starting that has a node, of which no container says why.

    A container that runs before the task's, such as the setup command, is progress, however
    long it takes; so is an image that is being pulled.
    """
    if pod.phase not in {"", "Pending"} or not (pod.spec and pod.spec.node_name):
        return
    stage = _stage(pod)
    if stage is None:
        return
    done, container = stage
    sandbox = _condition(pod, "PodReadyToStartContainers")
    if facts.mount and sandbox != "True":
        yield _mount(pod, policy, facts)
        return
    # Volumes come before the sandbox, and images after it: with a sandbox there is nothing to ask for.
    ask_after = policy.stuck_timeout if sandbox == "True" else policy.ask_after
    kind = "pulling" if facts.pulling else "starting"
    grace = math.inf if facts.pulling else policy.stuck_timeout
    yield Trouble(
        f"{pod.identity}/{kind}/{done}",
        grace,
        failed(*_standstill(pod, container, policy, facts), words=facts.words),
        pod.identity,
        policy.stuck_timeout if facts.pulling else ask_after,
    )


def _mount(pod: PodView, policy: ObservationPolicy, facts: EventFacts) -> Trouble:
    """kubelet, FailedMount; attach-detach controller, FailedAttachVolume. Each is tried again."""
    text = (
        f"The Pod's volumes cannot be mounted{facts.mount}: check that the Secrets, ConfigMaps and volume"
        " claims which its volumes name exist, and that the node can attach them"
    )
    outcome = failed(FailureReason.VOLUME_MOUNT, text)
    return Trouble(f"{pod.identity}/volume_mount", policy.pull_grace, outcome, pod.identity, 0.0)


def _standstill(
    pod: PodView, container: ContainerStatus | None, policy: ObservationPolicy, facts: EventFacts
) -> tuple[FailureReason, str]:
    assert pod.spec is not None
    assert pod.status is not None
    node, time = pod.spec.node_name, f"{policy.stuck_timeout:g} s"
    namespace = f" -n {pod.metadata.namespace}" if pod.metadata.namespace else ""
    look = f"its events tell more (kubectl describe pod{namespace} {pod.metadata.name})"
    if container is None:
        what = f"the node {node} has not taken the Pod up in {time}{facts.warning}"
        return FailureReason.NODE_LOST, sentence(f"{what}: see whether the node is ready")
    if container in (pod.status.init_container_statuses or ()):
        what = f"init container `{container.name}` has not started in {time}{facts.warning}"
        return FailureReason.INIT_STUCK, sentence(f"{what}: {look}")
    what = f"container `{container.name}` has not been created in {time}{facts.warning}"
    return FailureReason.CONTAINER_CREATE, sentence(f"{what}: {look}")


def _stage(pod: PodView) -> tuple[int, ContainerStatus | None] | None:
    """How many init containers are past, and which container waits; ``None`` while one works.

    The container is ``None`` where the node has not said anything of the Pod.
    """
    status = pod.status
    inits = (status.init_container_statuses if status else None) or ()
    native = pod.native_sidecars()
    for done, init in enumerate(inits):
        running = init.state is not None and init.state.running is not None
        if running and init.name not in native:
            return None
        if not running and init.terminated is None:
            return done, init
    mains = (status.container_statuses if status else None) or ()
    waiting = next((c for c in mains if not c.state or not (c.state.running or c.state.terminated)), None)
    if waiting is None and mains:
        return None
    return len(inits), waiting


def _condition(pod: PodView, kind: str) -> str:
    """The status of a condition; empty where the Pod has none of the kind."""
    conditions = (pod.status.conditions if pod.status else None) or ()
    return next((c.status for c in conditions if c.type == kind), "")
