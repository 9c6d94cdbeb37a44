"""Why the preflight's Pod did not run to its end. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from oz_agent_worker.config.schema import KubernetesConfig
from oz_agent_worker.core.outcome import FailureReason, Outcome

from .diagnosis import Diagnosis
from .views import ContainerStatus, EventView, PodView

__all__ = ["event_words", "of_outcome", "of_standstill", "scheduler_words", "of_no_pod"]

_CONFIG: Final = "backend.kubernetes"
_DENIED: Final = ("denied", "unauthorized", "no basic auth credentials", "authentication required")
_UNKNOWN: Final = ("not found", "manifest unknown", "name unknown", "does not exist")


def of_outcome(
    outcome: Outcome, pods: Sequence[PodView], manifest: Mapping[str, Any], config: KubernetesConfig
) -> Diagnosis:
    """Explain a Job that failed, or is certain to; ``outcome`` is what a task would be reported with."""
    match outcome.reason:
        case FailureReason.UNSCHEDULABLE:
            return _unschedulable(scheduler_words(pods), config)
        case FailureReason.IMAGE_PULL | FailureReason.INVALID_IMAGE:
            return _no_image(pods, manifest, config)
        case FailureReason.CONTAINER_CREATE | FailureReason.SIDECAR_PREP | FailureReason.SETUP_COMMAND:
            return _not_created(outcome, pods, config)
        case _:
            # The sentence of a task's report has all three parts in it already.
            return Diagnosis(f"the preflight Pod failed: {outcome.message}")


def scheduler_words(pods: Sequence[PodView]) -> str:
    """What the scheduler says of the Pod that waits for a node."""
    for pod in pods:
        for condition in (pod.status.conditions if pod.status else None) or ():
            if condition.type == "PodScheduled" and condition.status == "False":
                return condition.message or condition.reason or ""
    return ""


def _unschedulable(words: str, config: KubernetesConfig) -> Diagnosis:
    patience = f" within {config.unschedulable_timeout:g} s" if config.unschedulable_timeout else ""
    return Diagnosis(
        f"no node takes a task's Pod{patience}",
        words,
        f"correct nodeSelector, tolerations or affinity in {_CONFIG}.pod_template, or add nodes; where an"
        f" autoscaler adds them, raise {_CONFIG}.unschedulable_timeout, or set"
        f" {_CONFIG}.preflight_unschedulable to warn",
    )


def _no_image(
    pods: Sequence[PodView], manifest: Mapping[str, Any], config: KubernetesConfig
) -> Diagnosis:
    container = next(_waiting(pods), None)
    name = container.name if container else "task"
    words = container.waiting.message if container and container.waiting else ""
    image, key = _image(name, manifest, config)
    return Diagnosis(
        f"the image {image} of container `{name}` cannot be pulled", words or "", _pull_mend(words or "", key, config)
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
        return f"correct {key}: the registry has no such image (a private one may need {_CONFIG}.image_pull_secrets)"
    if "invalid" in low or "couldn't parse" in low:
        return f"correct {key}: this is no image's name"
    if "never" in low:
        return f"load the image onto the nodes, or change {_CONFIG}.image_pull_policy"
    return f"check that the nodes reach the registry, and {key}"


def _not_created(outcome: Outcome, pods: Sequence[PodView], config: KubernetesConfig) -> Diagnosis:
    container = next(_waiting(pods), None)
    if container is None or container.waiting is None:
        return Diagnosis(f"the preflight Pod failed: {outcome.message}")
    return Diagnosis(
        f"container `{container.name}` of a task's Pod cannot be created",
        f"{container.waiting.reason}: {container.waiting.message or ''}".rstrip(": "),
        f"create in namespace {config.namespace} the Secret or ConfigMap that {_CONFIG}.pod_template names,"
        " or correct the name; or correct the security context",
    )


def _waiting(pods: Sequence[PodView]) -> Iterator[ContainerStatus]:
    """The containers that wait for more than the others of their Pod."""
    for pod in pods:
        for container in _statuses(pod):
            reason = container.waiting.reason if container.waiting else None
            if reason not in (None, "PodInitializing", "ContainerCreating"):
                yield container


def _statuses(pod: PodView) -> tuple[ContainerStatus, ...]:
    status = pod.status
    if status is None:
        return ()
    return (*(status.init_container_statuses or ()), *(status.container_statuses or ()))


def of_no_pod(seconds: float, words: str) -> Diagnosis:
    """The Job was admitted and has no Pod, and no event says why."""
    return Diagnosis(
        f"the cluster made no Pod for the preflight Job within {seconds:g} s",
        words,
        "check that kube-controller-manager runs, and whatever holds Jobs back in this namespace, such as Kueue",
    )


def of_standstill(seconds: float, pods: Sequence[PodView], events: Sequence[EventView]) -> Diagnosis:
    """The preflight Pod has not ended after all the time that it has."""
    words = event_words(events)
    running = [c.name for pod in pods for c in _statuses(pod) if c.state and c.state.running]
    if running:
        return Diagnosis(
            f"the preflight Pod did not end within {seconds:g} s: container `{running[0]}` still runs",
            words,
            "a task is over when all containers of its Pod have ended: where one serves the others,"
            " make it an init container with restartPolicy: Always (a native sidecar)",
        )
    return Diagnosis(
        f"the preflight Pod did not start within {seconds:g} s",
        words or scheduler_words(pods),
        f"check that its volumes can be mounted and that {_CONFIG}.preflight_image is a small image",
    )


def event_words(events: Sequence[EventView]) -> str:
    """The last warning among the events, with its reason."""
    warnings = [event for event in events if event.type == "Warning"]
    if not warnings:
        return ""
    last = max(warnings, key=lambda e: e.last_timestamp or e.event_time or "")
    return f"{last.reason}: {last.message}"
