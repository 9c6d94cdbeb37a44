"""What keeps a Pod from running, and for how long that may go on.

Most of these states heal by themselves: a registry answers again, an autoscaler adds a
node. A problem therefore fails its task only after a grace, unless what the cluster says
shows that waiting cannot help.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, PodView, Waiting

from .disruptions import lost_pod_problems
from .events import NOT_READ, EventFacts
from .messages import capitalized, container_reason, quote_cluster, task_text
from .pending import scheduling_problems, startup_problems
from .policy import ObservationPolicy, PodProblem

__all__ = ["START_FAILURES", "ObservationPolicy", "PodProblem", "pod_problems"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """``quotes``: its message holds what a program of the Pod wrote."""

    reason: FailureReason
    what: str
    advice: str
    heals: bool = True
    quotes: bool = False


_PULL: Final = _Kind(
    FailureReason.IMAGE_PULL,
    "the image of container `{name}` cannot be pulled",
    "check the image's name and tag, the registry, and backend.kubernetes.image_pull_secrets",
)
_NEVER_PULL: Final = _Kind(
    FailureReason.IMAGE_PULL,
    "the image of container `{name}` is not on the node and may not be pulled",
    "load it onto the nodes, or change backend.kubernetes.image_pull_policy",
    heals=False,
)
_NAME: Final = _Kind(
    FailureReason.INVALID_IMAGE,
    "the image of container `{name}` has an invalid name",
    "correct the image's name",
    heals=False,
)
_CREATE: Final = _Kind(
    FailureReason.CONTAINER_CREATE,
    "container `{name}` cannot be created",
    "check that the Secrets, ConfigMaps and volumes that the Pod names exist, and its security context",
)
_START: Final = _Kind(
    FailureReason.CONTAINER_START,
    "container `{name}` cannot be started",
    "check that its image has the program that its command names",
)
_HOOK: Final = _Kind(
    FailureReason.CONTAINER_START,
    "container `{name}` was stopped because its postStart hook failed",
    "correct the hook in backend.kubernetes.pod_template",
    quotes=True,
)

#: Reasons of a container that ended without having run (containerd and dockershim).
START_FAILURES: Final = frozenset({"StartError", "ContainerCannotRun"})

_WAITING: Final[Mapping[str, _Kind]] = MappingProxyType(
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

# What registries and runtimes say where another attempt gives the same answer. A word that
# is part of an image's name (next to a slash, a hyphen, a colon or a dot) says nothing.
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
    """Yield what keeps this Pod from running, or from ending; nothing for one that has ended.

    ``facts`` are what its own events say, as far as they have been read.
    """
    if pod.status is None or pod.has_ended:
        return
    yield from lost_pod_problems(pod, policy)
    if pod.metadata.deletion_timestamp:
        return
    if pod.phase != "Running":
        yield from scheduling_problems(pod, policy, facts)
    told = [*_container_problems(pod, policy)]
    yield from told
    if not told:
        yield from startup_problems(pod, policy, facts)


def _container_problems(pod: PodView, policy: ObservationPolicy) -> Iterator[PodProblem]:
    for container in pod.init_container_statuses:
        if container.waiting is not None:
            yield from _waiting(pod, container, container.waiting, policy, init=True)
    for container in pod.container_statuses:
        if container.waiting is not None:
            yield from _waiting(pod, container, container.waiting, policy, init=False)


def _waiting(
    pod: PodView, container: ContainerStatus, waiting: Waiting, policy: ObservationPolicy, *, init: bool
) -> Iterator[PodProblem]:
    kind, reason, message = _kind_of(container, waiting)
    if kind is None:
        return
    final = not kind.heals or (kind is _PULL and _HOPELESS.search(message or "") is not None)
    quote = quote_cluster(reason, None if kind.quotes else message)
    text = f"{kind.what.format(name=container.name)}{quote}: {kind.advice}"
    failure = kind.reason
    if kind in (_CREATE, _START, _HOOK):
        failure = container_reason(container.name, failure, init=init)
    outcome = failed(failure, capitalized(text), words=task_text(message) if kind.quotes else None)
    key = f"{pod.identity}/{container.name}/{kind.reason.value}"
    yield PodProblem(key, 0.0 if final else policy.pull_grace, outcome)


def _kind_of(container: ContainerStatus, waiting: Waiting) -> tuple[_Kind | None, str | None, str | None]:
    """The problem's kind, and the reason and message that tell most of it."""
    if waiting.reason == "CrashLoopBackOff":
        # kubelet, container.ErrCrashLoopBackOff: only a native sidecar is restarted. That it
        # ends is its own affair; that it never started holds the task up for ever.
        last = container.last_terminated
        if last is not None and last.reason in START_FAILURES:
            return _START, last.reason, last.message
    return _WAITING.get(waiting.reason or ""), waiting.reason, waiting.message
