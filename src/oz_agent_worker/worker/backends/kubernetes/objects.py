"""The fields of Jobs and Pods that the worker reads, and no others.

A Pod is about ten kilobytes of JSON, of which an outcome needs a few hundred bytes; msgspec skips the
rest. An empty field is missing or ``null``: both decode to ``None``. Unknown fields are ignored, so
that objects of a newer API server decode. Times stay the RFC 3339 strings that the API sent. Views
have properties for what is read often, so that callers need not check each level for ``None``.

Strings that every Job and Pod in flight repeats (conditions, container and node names) are interned:
thousands of views share one string each. A Pod that has ended is deleted soon and is left as it is.
"""

from collections.abc import Iterable
from sys import intern
from typing import Final

from msgspec import Struct, field
from msgspec.structs import force_setattr

from oz_agent_worker.protocol.report import ExecutionKey

__all__ = [
    "Annotations",
    "Condition",
    "ContainerSpec",
    "ContainerState",
    "ContainerStatus",
    "JobSpec",
    "JobStatus",
    "JobView",
    "Labels",
    "ObjectMeta",
    "PodSpec",
    "PodStatus",
    "PodView",
    "Running",
    "Terminated",
    "View",
    "Waiting",
    "in_order",
    "last_pod",
]


class View(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Common options: views have no reference cycles, so the garbage collector need not track them."""


def _share(view: Struct, *names: str) -> None:
    """Intern strings of ``view``, as the last step of its construction."""
    for name in names:
        value = getattr(view, name)
        if value is not None:
            force_setattr(view, name, intern(value))


class Labels(View, frozen=True):
    """The labels of the worker's objects (``manifest/naming`` writes them) and of the Job controller."""

    worker_id: str | None = field(name="oz-worker-id", default=None)
    worker_hash: str | None = field(name="oz-worker-hash", default=None)
    job_name: str | None = field(name="job-name", default=None)
    """The name of a Pod's Job; set by the Job controller."""
    job_uid: str | None = field(name="batch.kubernetes.io/controller-uid", default=None)
    """The UID of a Pod's Job; set by the Job controller (well-known labels)."""


class Annotations(View, frozen=True):
    """The unchanged IDs, which labels could not hold; of a Job its Secret and its owner as well."""

    task_id: str | None = field(name="oz.warp.dev/task-id", default=None)
    execution_id: str | None = field(name="oz.warp.dev/execution-id", default=None)
    environment_secret: str | None = field(name="oz.warp.dev/environment-secret", default=None)
    owner: str | None = field(name="oz.warp.dev/owner", default=None)


class ObjectMeta(View, frozen=True):
    """``metadata`` of an object (meta/v1, ObjectMeta)."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    labels: Labels | None = None
    annotations: Annotations | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    """When the grace period of the deletion ends: the time of its request plus the grace period."""
    deletion_grace_period_seconds: int | None = None

    @property
    def key(self) -> ExecutionKey | None:
        """The execution that the annotations name, if they do."""
        noted = self.annotations
        if noted is None or not noted.task_id or not noted.execution_id:
            return None
        return ExecutionKey(noted.task_id, noted.execution_id)


class Condition(View, frozen=True):
    """A condition of a Job or a Pod; ``status`` is ``True``, ``False`` or ``Unknown``."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class JobStatus(View, frozen=True):
    """``status`` of a Job (batch/v1, JobStatus)."""

    conditions: tuple[Condition, ...] | None = None
    start_time: str | None = None
    """When the Job controller first handled the Job."""
    active: int | None = None
    failed: int | None = None


class JobSpec(View, frozen=True):
    """``spec`` of a Job (batch/v1, JobSpec)."""

    backoff_limit: int | None = None
    """How many of its Pods may fail before the Job does."""


class JobView(View, frozen=True):
    """A Job (batch/v1, Job)."""

    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec | None = None
    status: JobStatus | None = None

    def __post_init__(self) -> None:
        _share_marks(self.metadata)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The Job's conditions, whatever their status."""
        return (self.status.conditions if self.status else None) or ()

    def condition(self, *kinds: str) -> Condition | None:
        """The condition of one of these types that is ``True``, the first type's first, if there is one."""
        holds = [c for c in self.conditions if c.status == "True" and c.type in kinds]
        return min(holds, key=lambda c: kinds.index(c.type), default=None) if holds else None


class Waiting(View, frozen=True):
    """A container does not run yet, and why (core/v1, ContainerStateWaiting)."""

    reason: str | None = None
    message: str | None = None


class Running(View, frozen=True):
    """A container runs (core/v1, ContainerStateRunning)."""

    started_at: str | None = None


class Terminated(View, frozen=True):
    """A container has ended (core/v1, ContainerStateTerminated).

    ``message`` is what the container wrote, which may be a secret of the task. Only where the
    container never ran it is the runtime's.
    """

    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def is_unseen(self) -> bool:
        """Whether the kubelet did not see the end, nor perhaps a start; ``message`` is the kubelet's own."""
        return self.reason == "ContainerStatusUnknown"

    @property
    def code(self) -> int:
        """The exit code; 128 + signal where a signal ended the container, as shells have it."""
        return self.exit_code or (128 + self.signal if self.signal else 0)


class ContainerState(View, frozen=True):
    """The state of a container (core/v1, ContainerState): at most one is set; none means waiting."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(View, frozen=True):
    """A container or init container of a Pod (core/v1, ContainerStatus)."""

    name: str = ""
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    restart_count: int | None = None

    @property
    def waiting(self) -> Waiting | None:
        """Why the container waits, if it does and says so."""
        return self.state.waiting if self.state else None

    @property
    def running(self) -> Running | None:
        """Since when the container runs, if it does."""
        return self.state.running if self.state else None

    @property
    def terminated(self) -> Terminated | None:
        """How the container ended, if it did."""
        return self.state.terminated if self.state else None

    @property
    def has_started(self) -> bool:
        """Whether the container runs or has ended."""
        return self.running is not None or self.terminated is not None

    @property
    def last_terminated(self) -> Terminated | None:
        """How the container ended before its last restart, if there was one."""
        return self.last_state.terminated if self.last_state else None


class PodStatus(View, frozen=True):
    """``status`` of a Pod (core/v1, PodStatus)."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: tuple[Condition, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class ContainerSpec(View, frozen=True):
    """An init container in the spec; ``restart_policy`` ``Always`` makes it a native sidecar (KEP-753)."""

    name: str = ""
    restart_policy: str | None = None


class PodSpec(View, frozen=True):
    """``spec`` of a Pod (core/v1, PodSpec)."""

    node_name: str | None = None
    init_containers: tuple[ContainerSpec, ...] | None = None
    termination_grace_period_seconds: int | None = None


class PodView(View, frozen=True):
    """A Pod (core/v1, Pod)."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec | None = None
    status: PodStatus | None = None

    def __post_init__(self) -> None:
        if not self.has_ended:
            _share_words(self)

    @property
    def phase(self) -> str:
        """``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Unknown``; empty where there is none."""
        return (self.status.phase if self.status else None) or ""

    @property
    def has_ended(self) -> bool:
        """Whether all containers have ended and none will be restarted."""
        return self.phase in _ENDED

    @property
    def reason(self) -> str | None:
        """Why the Pod is in its phase, such as ``Evicted``."""
        return self.status.reason if self.status else None

    @property
    def message(self) -> str | None:
        """Why the Pod is in its phase, for people."""
        return self.status.message if self.status else None

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The Pod's conditions, whatever their status."""
        return (self.status.conditions if self.status else None) or ()

    @property
    def init_container_statuses(self) -> tuple[ContainerStatus, ...]:
        """The init containers, native sidecars included, in the order in which they start."""
        return (self.status.init_container_statuses if self.status else None) or ()

    @property
    def container_statuses(self) -> tuple[ContainerStatus, ...]:
        """The containers that are not init containers."""
        return (self.status.container_statuses if self.status else None) or ()

    @property
    def all_container_statuses(self) -> tuple[ContainerStatus, ...]:
        """The init containers, and then the others."""
        return (*self.init_container_statuses, *self.container_statuses)

    @property
    def has_started(self) -> bool:
        """Whether a container of it, an init container included, has run, as far as its node has seen.

        Of a Pod that is deleted before it starts the kubelet reports that it did not see its containers end.
        """
        return any(
            c.running or c.last_terminated or (c.terminated and not c.terminated.is_unseen)
            for c in self.all_container_statuses
        )

    @property
    def node_name(self) -> str:
        """The node that the Pod is bound to; empty before it is scheduled."""
        return (self.spec.node_name if self.spec else None) or ""

    @property
    def job_name(self) -> str | None:
        """The name of the Pod's Job."""
        return self.metadata.labels.job_name if self.metadata.labels else None

    @property
    def job_uid(self) -> str | None:
        """The UID of the Pod's Job; a Job that is created again has the same name and another UID."""
        return self.metadata.labels.job_uid if self.metadata.labels else None

    @property
    def identity(self) -> str:
        """The Pod's UID, which every Pod of an API server has."""
        return self.metadata.uid or self.metadata.name

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, whatever its status, if there is one."""
        return next((c for c in self.conditions if c.type == kind), None)

    def native_sidecars(self) -> frozenset[str]:
        """The names of the init containers that run as long as the task does."""
        declared = self.spec.init_containers if self.spec else None
        return frozenset(c.name for c in declared or () if c.restart_policy == "Always")


#: The phases of a Pod whose containers have all ended and will not be restarted.
_ENDED: Final = frozenset({"Succeeded", "Failed"})


def _share_marks(metadata: ObjectMeta) -> None:
    """Intern what names the worker of an object, and the process that created a Job."""
    _share(metadata, "namespace")
    if metadata.labels is not None:
        _share(metadata.labels, "worker_id", "worker_hash")
    if metadata.annotations is not None:
        _share(metadata.annotations, "owner")


def _share_words(pod: PodView) -> None:
    """Intern the strings that Pods have in common."""
    _share_marks(pod.metadata)
    if pod.spec is not None:
        _share(pod.spec, "node_name")
        for declared in pod.spec.init_containers or ():
            _share(declared, "name", "restart_policy")
    if (status := pod.status) is not None:
        _share(status, "phase")
        for condition in status.conditions or ():
            _share(condition, "type", "status", "reason")
        for containers in (status.init_container_statuses, status.container_statuses):
            for container in containers or ():
                _share(container, "name")


def _age(pod: PodView) -> tuple[str, bool, str]:
    """Order the Pods of a Job by their creation.

    Times of creation are whole seconds. Of two Pods of one second the one that has ended is the older
    one, and the UID makes the order the same at each look.
    """
    return pod.metadata.creation_timestamp or "", not pod.has_ended, pod.identity


def in_order(pods: Iterable[PodView]) -> tuple[PodView, ...]:
    """The Pods of a Job, the oldest first."""
    return tuple(sorted(pods, key=_age))


def last_pod(pods: Iterable[PodView]) -> PodView | None:
    """The Pod of a Job that decides the outcome: the newest.

    A second Pod that has not started counts less than one that runs: the Job controller may have made it
    by mistake, and takes it away again.
    """
    return max(pods, key=lambda pod: (pod.has_started and not pod.has_ended, _age(pod)), default=None)
