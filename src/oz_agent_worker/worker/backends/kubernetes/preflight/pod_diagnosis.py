"""Why the preflight's Pod did not run to its end. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, describe_exit_code
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, EventView, PodView, last_seen
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding
from oz_agent_worker.worker.backends.kubernetes.status.pending import no_node
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .probe_job import is_own_container

__all__ = ["event_words", "is_unschedulable", "of_no_pod", "of_outcome", "of_standstill", "scheduler_words"]

_CONFIG: Final = "backend.kubernetes"
_DENIED: Final = ("denied", "unauthorized", "no basic auth credentials", "authentication required")
#: Where the end of a container is the cause, and not the effect of an eviction or a deadline.
_PROGRAM_ENDS: Final = frozenset(
    {
        FailureReason.CONTAINER_EXIT,
        FailureReason.CONTAINER_OOM,
        FailureReason.CONTAINER_START,
        FailureReason.INIT_CONTAINER,
        FailureReason.SETUP_COMMAND,
        FailureReason.SIDECAR_PREP,
    }
)
_NODE_MEND: Final = (
    f"correct nodeSelector, tolerations or affinity in {_CONFIG}.pod_template, or add nodes; where an"
    f" autoscaler adds them, raise {_CONFIG}.unschedulable_timeout, or set"
    f" {_CONFIG}.preflight_unschedulable to warn"
)
#: Events of volumes (kubelet, and the attach-detach controller).
_VOLUMES: Final = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_UNKNOWN: Final = ("not found", "manifest unknown", "name unknown", "does not exist")


def of_outcome(
    outcome: Outcome,
    pods: Sequence[PodView],
    manifest: Mapping[str, Any],
    config: KubernetesConfig,
    *,
    facts: EventFacts = NOT_READ,
    log: str = "",
) -> Finding:
    """Explain a Job that failed, or is certain to.

    ``outcome`` is what a task would be reported with, ``facts`` what the events of the Pod
    say, ``log`` the end of the log of the container that failed.
    """
    reason = outcome.reason
    if reason is FailureReason.UNSCHEDULABLE:
        what = no_node("a task's", config.unschedulable_timeout)
        return Finding(what, scheduler_words(pods, facts), _NODE_MEND)
    if reason is FailureReason.VOLUME_MOUNT:
        return _not_mounted(facts.mount)
    if reason in {FailureReason.IMAGE_PULL, FailureReason.INVALID_IMAGE}:
        return _no_image(pods, manifest, config)
    waiting = next(_waiting(pods), None)
    if waiting is not None:
        return _not_created(waiting, config)
    ended = next(_ended_badly(pods), None)
    if ended is not None and reason in _PROGRAM_ENDS:
        return _ended(ended, log, config)
    # The sentence of a task's report has all three parts in it already.
    return Finding(f"the preflight Pod failed: {outcome.for_owner()}")


def scheduler_words(pods: Sequence[PodView], facts: EventFacts = NOT_READ) -> str:
    """What the scheduler, and then the autoscaler, say of the Pod that waits for a node."""
    told = [_unscheduled(pod) for pod in pods] + [facts.autoscaler]
    return "; ".join(words for words in told if words)


def is_unschedulable(pods: Sequence[PodView]) -> bool:
    """Whether the scheduler has looked for a node, and found none."""
    return any(_unscheduled(pod) for pod in pods)


def _unscheduled(pod: PodView) -> str:
    condition = pod.condition("PodScheduled")
    if condition is None or condition.status != "False":
        return ""
    return condition.message or condition.reason or ""


def _no_image(pods: Sequence[PodView], manifest: Mapping[str, Any], config: KubernetesConfig) -> Finding:
    container = next(_waiting(pods), None)
    name = container.name if container else "task"
    words = container.waiting.message if container and container.waiting else ""
    image, key = _image(name, manifest, config)
    return Finding(
        f"the image {image} of container `{name}` cannot be pulled",
        words or "",
        _pull_mend(words or "", key, config),
    )


def _image(container: str, manifest: Mapping[str, Any], config: KubernetesConfig) -> tuple[str, str]:
    """A container's image, and the key of the config file that names it."""
    pod = manifest["spec"]["template"]["spec"]
    for field in ("initContainers", "containers"):
        for item in pod.get(field) or ():
            if item["name"] == container and item.get("image") != config.preflight_image:
                return item.get("image", ""), f"{_CONFIG}.pod_template.{field}[{container}].image"
    return config.preflight_image, f"{_CONFIG}.preflight_image"


def _pull_mend(words: str, key: str, config: KubernetesConfig) -> str:
    low = words.lower()
    if any(word in low for word in _DENIED):
        return (
            f"name a Secret with the registry's credentials in {_CONFIG}.image_pull_secrets"
            f" (kubectl -n {config.namespace} create secret docker-registry NAME …), or correct {key}"
        )
    if any(word in low for word in _UNKNOWN):
        private = f"(a private one may need {_CONFIG}.image_pull_secrets)"
        return f"correct {key}: the registry has no such image {private}"
    if "invalid" in low or "couldn't parse" in low:
        return f"correct {key}: this is no image's name"
    if "never" in low:
        return f"load the image onto the nodes, or change {_CONFIG}.image_pull_policy"
    return f"check that the nodes reach the registry, and {key}"


def _not_created(container: ContainerStatus, config: KubernetesConfig) -> Finding:
    assert container.waiting is not None
    return Finding(
        f"container `{container.name}` of a task's Pod cannot be created",
        f"{container.waiting.reason}: {container.waiting.message or ''}".rstrip(": "),
        f"create in namespace {config.namespace} the Secret or ConfigMap that {_CONFIG}.pod_template names,"
        " or correct the name; or correct the security context",
    )


def _ended(container: ContainerStatus, log: str, config: KubernetesConfig) -> Finding:
    name, state = container.name, container.terminated
    assert state is not None
    how = describe_exit_code(state.exit_code)
    what = f"container `{name}` of the preflight Pod ended with {how}"
    # "Error" is the runtimes' word for any exit code but 0: it says nothing.
    reason = state.reason if state.reason != "Error" else None
    words = ": ".join(part for part in (reason, state.message or log) if part)
    if state.reason == "OOMKilled":
        return Finding(what, words, f"give it more memory in {_CONFIG}.preflight_resources")
    if not is_own_container(name):
        return Finding(
            what, words, f"correct {_CONFIG}.pod_template: the container `{name}` is the template's"
        )
    return Finding(
        what,
        words,
        f"it runs `/bin/sh -c 'exit 0'`: name in {_CONFIG}.preflight_image an image that has /bin/sh and is"
        " built for the nodes' architecture, and check the security context",
    )


def _waiting(pods: Sequence[PodView]) -> Iterator[ContainerStatus]:
    """The containers that wait for more than the others of their Pod."""
    for pod in pods:
        for container in pod.all_container_statuses:
            reason = container.waiting.reason if container.waiting else None
            if reason not in (None, "PodInitializing", "ContainerCreating"):
                yield container


def _ended_badly(pods: Sequence[PodView]) -> Iterator[ContainerStatus]:
    for pod in pods:
        native = pod.native_sidecars()
        for container in pod.all_container_statuses:
            ended = container.terminated
            if ended is not None and ended.exit_code != 0 and container.name not in native:
                yield container


def of_no_pod(seconds: float, words: str) -> Finding:
    """The Job was admitted and has no Pod, and no event says why."""
    return Finding(
        f"the cluster made no Pod for the preflight Job within {seconds:g} s",
        words,
        "check that kube-controller-manager runs, and what else holds Jobs back in this namespace (Kueue?)",
    )


def of_standstill(seconds: float, pods: Sequence[PodView], events: Sequence[EventView]) -> Finding:
    """The preflight Pod has not ended after all the time that it has."""
    words = event_words(events)
    running = [c.name for pod in pods for c in pod.all_container_statuses if c.running]
    if running:
        return Finding(
            f"the preflight Pod did not end within {seconds:g} s: container `{running[0]}` still runs",
            words,
            "a task is over when all containers of its Pod have ended: where one serves the others,"
            " make it an init container with restartPolicy: Always (a native sidecar)",
        )
    if words.startswith(_VOLUMES):
        return _not_mounted(words)
    if is_unschedulable(pods):
        return Finding(f"no node takes a task's Pod within {seconds:g} s", scheduler_words(pods), _NODE_MEND)
    if not any(pod.node_name for pod in pods):
        return Finding(
            f"no scheduler has looked at the preflight Pod within {seconds:g} s",
            words,
            "see whether the scheduler runs, and whether schedulerName in"
            f" {_CONFIG}.pod_template names one that does",
        )
    return Finding(
        f"the preflight Pod did not start within {seconds:g} s",
        words,
        f"check that its volumes can be mounted and that {_CONFIG}.preflight_image is a small image",
    )


def _not_mounted(words: str) -> Finding:
    return Finding(
        "a volume of a task's Pod cannot be mounted",
        words,
        f"create what the volumes in {_CONFIG}.pod_template name (Secret, ConfigMap, volume claim), or"
        " correct the names",
    )


def event_words(events: Sequence[EventView]) -> str:
    """The last warning among the events, with its reason."""
    warnings = [event for event in events if event.type == "Warning"]
    if not warnings:
        return ""
    last = max(warnings, key=last_seen)
    return f"{last.reason}: {last.message}"
