"""What keeps a Pod from running, and for how long that may continue.

Most of these states pass by themselves: a registry answers again, an autoscaler adds a
node. So a problem fails its task only after a grace, unless the cluster's message shows that
waiting does not help.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, PodView

from .disruptions import lost_pod_problems
from .events import NOT_READ, EventFacts
from .finding import Finding, PodProblem
from .messages import cluster_message, container_reason, task_text
from .pending import scheduling_problems, startup_problems
from .policy import ObservationPolicy
from .start_errors import start_advice

__all__ = ["START_FAILURES", "pod_problems"]


@dataclass(frozen=True, slots=True)
class _WaitingKind:
    """A kind of waiting. ``quotes``: its message holds what a program of the Pod wrote.

    ``may_pass``: it may pass by itself, so its task fails only after a grace.
    """

    reason: FailureReason
    what: str
    advice: str
    may_pass: bool = True
    quotes: bool = False


_PULL: Final = _WaitingKind(
    FailureReason.IMAGE_PULL,
    "the image of container `{name}` cannot be pulled",
    "check the image's name and tag, the registry, and backend.kubernetes.image_pull_secrets",
)
_NEVER_PULL: Final = _WaitingKind(
    FailureReason.IMAGE_PULL,
    "the image of container `{name}` is not on the node and may not be pulled",
    "load it onto the nodes, or change backend.kubernetes.image_pull_policy",
    may_pass=False,
)
_NAME: Final = _WaitingKind(
    FailureReason.INVALID_IMAGE,
    "the image of container `{name}` has an invalid name",
    "correct the image's name",
    may_pass=False,
)
_CREATE: Final = _WaitingKind(
    FailureReason.CONTAINER_CREATE,
    "container `{name}` cannot be created",
    "check that the Secrets, ConfigMaps and volumes that the Pod names exist, and its security context",
)
_START: Final = _WaitingKind(
    FailureReason.CONTAINER_START,
    "container `{name}` cannot be started",
    "",  # by the runtime's message: start_errors
)
_HOOK: Final = _WaitingKind(
    FailureReason.CONTAINER_START,
    "container `{name}` was stopped because its postStart hook failed",
    "correct the hook in backend.kubernetes.pod_template",
    quotes=True,
)

#: Reasons of a container that ended without having run (containerd and dockershim).
START_FAILURES: Final = frozenset({"StartError", "ContainerCannotRun"})

_WAITING: Final[Mapping[str, _WaitingKind]] = MappingProxyType(
    {
        "ErrImagePull": _PULL,  # kubelet, images.ErrImagePull
        "ImagePullBackOff": _PULL,  # kubelet, images.ErrImagePullBackOff
        "RegistryUnavailable": _PULL,  # CRI, errors.ErrRegistryUnavailable
        "ImageInspectError": _PULL,  # kubelet, images.ErrImageInspect
        "SignatureValidationFailed": _PULL,  # CRI, errors.ErrSignatureValidationFailed
        "ErrImageNeverPull": _NEVER_PULL,  # kubelet, images.ErrImageNeverPull
        "InvalidImageName": _NAME,  # kubelet, images.ErrInvalidImageName
        "CreateContainerConfigError": _CREATE,  # kubelet, kuberuntime.ErrCreateContainerConfig
        "CreateContainerError": _CREATE,  # kubelet, kuberuntime.ErrCreateContainer
        "PreCreateHookError": _CREATE,  # kubelet, kuberuntime.ErrPreCreateHook
        "RunContainerError": _START,  # kubelet, container.ErrRunContainer
        "PreStartHookError": _START,  # kubelet, kuberuntime.ErrPreStartHook
        "PostStartHookError": _HOOK,  # kubelet, kuberuntime.ErrPostStartHook
    }
)

# What registries and runtimes say where another attempt gives the same answer. Words that are part
# of an image's name (next to a slash, a hyphen, a colon or a dot) do not count.
_HOPELESS: Final = re.compile(
    r"(?<![\w/.:@-])"
    r"(not found|manifest unknown|name unknown|denied|unauthorized|no basic auth credentials"
    r"|does not exist|invalid reference|invalid reference format)"
    r"(?![\w/@-]|[.:]\w)",
    re.IGNORECASE,
)


def pod_problems(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[PodProblem]:
    """Yield what keeps this Pod from running or from ending; nothing for a Pod that has ended.

    ``facts`` are from its own events, as far as they have been read.
    """
    if pod.status is None or pod.has_ended:
        return
    yield from lost_pod_problems(pod, policy)
    if pod.metadata.deletion_timestamp:
        return
    if pod.phase != "Running":
        yield from scheduling_problems(pod, policy, facts)
    found = [*_container_problems(pod, policy)]
    yield from found
    if not found:
        yield from startup_problems(pod, policy, facts)


def _container_problems(pod: PodView, policy: ObservationPolicy) -> Iterator[PodProblem]:
    """What the waiting containers say (core/v1, ContainerStateWaiting), init containers first."""
    for container in pod.all_container_statuses:
        kind, reason, message = _kind_of(container)
        if kind is None:
            continue
        final = not kind.may_pass or (kind is _PULL and _HOPELESS.search(message or "") is not None)
        failure = kind.reason
        if kind in (_CREATE, _START, _HOOK):
            init = container in pod.init_container_statuses
            failure = container_reason(container.name, failure, init=init)
        quote = cluster_message(reason, None if kind.quotes else message)
        yield PodProblem(
            f"{pod.identity}/{container.name}/{kind.reason.value}",
            0.0 if final else policy.pull_grace,
            failure,
            Finding(
                kind.what.format(name=container.name),
                quote,
                start_advice(message) if kind is _START else kind.advice,
            ),
            text=task_text(message) if kind.quotes else None,
        )


def _kind_of(container: ContainerStatus) -> tuple[_WaitingKind | None, str | None, str | None]:
    """The kind of problem that a container has, if any, with the reason and message that say most."""
    waiting = container.waiting
    if waiting is None:
        return None, None, None
    if waiting.reason == "CrashLoopBackOff":
        # kubelet, container.ErrCrashLoopBackOff: only a native sidecar is restarted. That it
        # ends does not matter to the task; if it cannot start, the task waits for ever.
        last = container.last_terminated
        if last is not None and last.reason in START_FAILURES:
            return _START, last.reason, last.message
    return _WAITING.get(waiting.reason or ""), waiting.reason, waiting.message
