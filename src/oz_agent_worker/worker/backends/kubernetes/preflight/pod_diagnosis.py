"""Explains why the Pod of the preflight Job did not run to its end. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, describe_exit_code
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView, last_seen
from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import PodView, Terminated
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding
from oz_agent_worker.worker.backends.kubernetes.status.pending import no_node
from oz_agent_worker.worker.backends.kubernetes.status.start_errors import start_advice
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .probe_job import is_own_container

__all__ = [
    "event_message",
    "explain_missing_pod",
    "explain_outcome",
    "explain_standstill",
    "is_unschedulable",
    "scheduler_words",
]

_CONFIG: Final = "backend.kubernetes"
_DENIED: Final = ("denied", "unauthorized", "no basic auth credentials", "authentication required")
#: Failures that a container's end causes; after an eviction or a deadline it is an effect.
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
_NODE_ADVICE: Final = (
    f"correct nodeSelector, tolerations or affinity in {_CONFIG}.pod_template, or add nodes; where an"
    f" autoscaler adds them, raise {_CONFIG}.unschedulable_timeout, or set"
    f" {_CONFIG}.preflight_unschedulable to warn"
)
#: Events of volumes (kubelet, and the attach-detach controller).
_VOLUMES: Final = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
#: Reasons of containers that wait for others of their Pod, or wait no longer than usual.
_WAITS_FOR_OTHERS: Final = (None, "PodInitializing", "ContainerCreating")
_UNKNOWN: Final = ("not found", "manifest unknown", "name unknown", "does not exist")


def explain_outcome(
    outcome: Outcome,
    pods: Sequence[PodView],
    manifest: Mapping[str, Any],
    config: KubernetesConfig,
    *,
    facts: EventFacts = NOT_READ,
    log: str = "",
) -> Finding:
    """Explain a Job that failed, or is certain to.

    ``outcome`` is what would be reported of a task, ``facts`` what the events of the Pod say, ``log``
    the end of the log of the container that failed.
    """
    reason = outcome.reason
    if reason is FailureReason.UNSCHEDULABLE:
        what = no_node("a task's", config.unschedulable_timeout)
        return Finding(what, scheduler_words(pods, facts), _NODE_ADVICE)
    if reason is FailureReason.VOLUME_MOUNT:
        return _volume_not_mounted(facts.mount)
    # (name, reason, message) of the containers that wait for something of their own.
    waiting = [
        (container.name, container.waiting.reason, container.waiting.message or "")
        for pod in pods
        for container in pod.all_container_statuses
        if container.waiting and container.waiting.reason not in _WAITS_FOR_OTHERS
    ]
    if reason in {FailureReason.IMAGE_PULL, FailureReason.INVALID_IMAGE}:
        name, _, message = waiting[0] if waiting else (TASK_CONTAINER, None, "")
        image, key = _image(name, manifest, config)
        what = f"the image {image} of container `{name}` cannot be pulled"
        return Finding(what, message, _pull_advice(message, key, config))
    if waiting:
        name, why, message = waiting[0]
        if reason is FailureReason.CONTAINER_START:
            what = f"container `{name}` of a task's Pod cannot be started"
            return Finding(what, f"{why}: {message}".rstrip(": "), start_advice(message))
        return Finding(
            f"container `{name}` of a task's Pod cannot be created",
            f"{why}: {message}".rstrip(": "),
            f"create in namespace {config.namespace} the Secret or ConfigMap that {_CONFIG}.pod_template"
            " names, or correct the name; or correct the security context",
        )
    for pod in pods if reason in _PROGRAM_ENDS else ():
        for container in pod.all_container_statuses:
            end = container.terminated
            if end is not None and end.exit_code != 0 and container.name not in pod.native_sidecars():
                return _explain_exit(container.name, end, log)
    # The sentence of a task's report already has the quotation and the advice.
    return Finding(f"the preflight Pod failed: {outcome.for_owner()}")


def scheduler_words(pods: Sequence[PodView], facts: EventFacts = NOT_READ) -> str:
    """Return what the scheduler, and then the autoscaler, say of a Pod that waits for a node."""
    return "; ".join(filter(None, [*map(_unscheduled, pods), facts.autoscaler]))


def is_unschedulable(pods: Sequence[PodView]) -> bool:
    """Whether the scheduler looked for a node and found none."""
    return any(map(_unscheduled, pods))


def _unscheduled(pod: PodView) -> str:
    condition = pod.condition("PodScheduled")
    if condition is None or condition.status != "False":
        return ""
    return condition.message or condition.reason or ""


def _image(container: str, manifest: Mapping[str, Any], config: KubernetesConfig) -> tuple[str, str]:
    """Return a container's image, and the key of the config file that names it."""
    pod = manifest["spec"]["template"]["spec"]
    for field in ("initContainers", "containers"):
        for item in pod.get(field) or ():
            if item["name"] == container and item.get("image") != config.preflight_image:
                return item.get("image", ""), f"{_CONFIG}.pod_template.{field}[{container}].image"
    return config.preflight_image, f"{_CONFIG}.preflight_image"


def _pull_advice(quote: str, key: str, config: KubernetesConfig) -> str:
    low = quote.lower()
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


def _explain_exit(container: str, end: Terminated, log: str) -> Finding:
    what = f"container `{container}` of the preflight Pod ended with {describe_exit_code(end.exit_code)}"
    # Runtimes give the reason "Error" for any exit code but 0.
    reason = end.reason if end.reason != "Error" else None
    quote = ": ".join(part for part in (reason, end.message or log) if part)
    if end.reason == "OOMKilled":
        advice = f"give it more memory in {_CONFIG}.preflight_resources"
    elif not is_own_container(container):
        advice = f"correct {_CONFIG}.pod_template: the container `{container}` is the template's"
    else:
        advice = (
            f"it runs `/bin/sh -c 'exit 0'`: name in {_CONFIG}.preflight_image an image that has /bin/sh and"
            " is built for the nodes' architecture, and check the security context"
        )
    return Finding(what, quote, advice)


def explain_missing_pod(seconds: float, quote: str) -> Finding:
    """Explain a Job that was admitted and has no Pod, and no event that says why."""
    return Finding(
        f"the cluster made no Pod for the preflight Job within {seconds:g} s",
        quote,
        "check that kube-controller-manager runs, and what else holds Jobs back in this namespace (Kueue?)",
    )


def explain_standstill(seconds: float, pods: Sequence[PodView], events: Sequence[EventView]) -> Finding:
    """Explain a preflight Pod that has not ended in time."""
    quote = event_message(events)
    running = [c.name for pod in pods for c in pod.all_container_statuses if c.running]
    if running:
        return Finding(
            f"the preflight Pod did not end within {seconds:g} s: container `{running[0]}` still runs",
            quote,
            "where a container serves the others, make it an init container with restartPolicy: Always (a"
            " native sidecar), which ends with the task",
        )
    if quote.startswith(_VOLUMES):
        return _volume_not_mounted(quote)
    if is_unschedulable(pods):
        return Finding(
            f"no node takes a task's Pod within {seconds:g} s", scheduler_words(pods), _NODE_ADVICE
        )
    if not any(pod.node_name for pod in pods):
        return Finding(
            f"no scheduler has looked at the preflight Pod within {seconds:g} s",
            quote,
            "see whether the scheduler runs, and whether schedulerName in"
            f" {_CONFIG}.pod_template names one that does",
        )
    return Finding(
        f"the preflight Pod did not start within {seconds:g} s",
        quote,
        f"check that its volumes can be mounted and that {_CONFIG}.preflight_image is a small image",
    )


def _volume_not_mounted(quote: str) -> Finding:
    return Finding(
        "a volume of a task's Pod cannot be mounted",
        quote,
        f"create what the volumes in {_CONFIG}.pod_template name (Secret, ConfigMap, volume claim), or"
        " correct the names",
    )


def event_message(events: Sequence[EventView]) -> str:
    """Return the last warning among the events, with its reason."""
    warnings = [event for event in events if event.type == "Warning"]
    if not warnings:
        return ""
    last = max(warnings, key=last_seen)
    return f"{last.reason}: {last.message}"
