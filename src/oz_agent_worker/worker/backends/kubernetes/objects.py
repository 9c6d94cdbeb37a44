"""What the worker reads of Jobs, Pods and Events: the observed fields, nothing else.

A Pod of the API is some ten kilobytes of JSON; of it, an outcome needs a few hundred
bytes. msgspec skips the rest without building it. Empty fields are left out or, where Go's
form of the type has one, sent as ``null``: both decode to ``None``, and unknown fields
are ignored, so that no object of a newer API server fails to decode. Times stay the
RFC 3339 strings that the API sent.

Words that every Job and Pod in flight repeats (conditions, container and node names) are
interned: thousands of views share one string each. A Pod that has ended is left as it is:
it goes soon.
"""

from collections.abc import Iterable
from datetime import datetime
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
    "EventSeries",
    "EventSource",
    "EventView",
    "JobStatus",
    "JobView",
    "Labels",
    "ObjectMeta",
    "ObjectReference",
    "PodSpec",
    "PodStatus",
    "PodView",
    "Running",
    "Terminated",
    "Waiting",
    "last_pod",
    "last_seen",
]


class _View(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Common options: views form no cycles, so the garbage collector need not visit them."""


def _share(view: Struct, *names: str) -> None:
    """Replace strings of ``view`` by their interned twins, as its construction's last step."""
    for name in names:
        value = getattr(view, name)
        if value is not None:
            force_setattr(view, name, intern(value))


class Labels(_View, frozen=True):
    """The labels by which the worker knows its objects (``naming`` writes them)."""

    worker_id: str | None = field(name="oz-worker-id", default=None)
    worker_hash: str | None = field(name="oz-worker-hash", default=None)
    job_name: str | None = field(name="job-name", default=None)
    """Set on a Pod by the Job controller: the name of the Pod's Job."""
    job_uid: str | None = field(name="batch.kubernetes.io/controller-uid", default=None)
    """Set on a Pod by the Job controller: the UID of the Pod's Job (well-known labels)."""


class Annotations(_View, frozen=True):
    """The raw IDs, unharmed by the rules for labels; of a Job its Secret and its owner (``naming``)."""

    task_id: str | None = field(name="oz.warp.dev/task-id", default=None)
    execution_id: str | None = field(name="oz.warp.dev/execution-id", default=None)
    environment_secret: str | None = field(name="oz.warp.dev/environment-secret", default=None)
    owner: str | None = field(name="oz.warp.dev/owner", default=None)


class ObjectMeta(_View, frozen=True):
    """``metadata`` of any object (meta/v1, ObjectMeta); of a list or bookmark, its version."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    labels: Labels | None = None
    annotations: Annotations | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    """When the object's grace period ends: the time of the deletion, and the grace after it."""
    deletion_grace_period_seconds: int | None = None

    @property
    def key(self) -> ExecutionKey | None:
        """The execution that the annotations name; ``None`` where they name none."""
        noted = self.annotations
        if noted is None or not noted.task_id or not noted.execution_id:
            return None
        return ExecutionKey(noted.task_id, noted.execution_id)


class Condition(_View, frozen=True):
    """A condition of a Job or a Pod; ``status`` is ``True``, ``False`` or ``Unknown``."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class JobStatus(_View, frozen=True):
    """``status`` of a Job (batch/v1, JobStatus)."""

    conditions: tuple[Condition, ...] | None = None
    start_time: str | None = None
    """When the Job controller first saw to the Job."""
    active: int | None = None
    succeeded: int | None = None
    failed: int | None = None


class JobView(_View, frozen=True):
    """A Job as the worker sees it."""

    metadata: ObjectMeta = ObjectMeta()
    status: JobStatus | None = None

    def __post_init__(self) -> None:
        _share_marks(self.metadata)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The Job's conditions, whatever their status."""
        return (self.status.conditions if self.status else None) or ()

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type that is ``True``, if there is one."""
        return next((c for c in self.conditions if c.type == kind and c.status == "True"), None)


class Waiting(_View, frozen=True):
    """Why a container does not run yet (core/v1, ContainerStateWaiting)."""

    reason: str | None = None
    message: str | None = None


class Running(_View, frozen=True):
    """A container runs (core/v1, ContainerStateRunning)."""

    started_at: str | None = None


class Terminated(_View, frozen=True):
    """How a container ended (core/v1, ContainerStateTerminated).

    ``message`` is what the container wrote, but where it never ran: it may hold a secret of the task.
    """

    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def code(self) -> int:
        """The exit code; 128 + signal where a signal ended the container, as shells have it."""
        return self.exit_code or (128 + self.signal if self.signal else 0)


class ContainerState(_View, frozen=True):
    """At most one of these is set; none means waiting (core/v1, ContainerState)."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(_View, frozen=True):
    """A container of a Pod, init containers included (core/v1, ContainerStatus)."""

    name: str = ""
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    restart_count: int | None = None

    @property
    def waiting(self) -> Waiting | None:
        """Why the container waits, where it does and says so."""
        return self.state.waiting if self.state else None

    @property
    def running(self) -> Running | None:
        """Since when the container runs, where it does."""
        return self.state.running if self.state else None

    @property
    def terminated(self) -> Terminated | None:
        """How the container ended, where it did."""
        return self.state.terminated if self.state else None

    @property
    def has_started(self) -> bool:
        """Whether the container runs or has ended."""
        return self.running is not None or self.terminated is not None

    @property
    def last_terminated(self) -> Terminated | None:
        """How the container ended before it was restarted, where it was."""
        return self.last_state.terminated if self.last_state else None


class PodStatus(_View, frozen=True):
    """``status`` of a Pod (core/v1, PodStatus)."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: tuple[Condition, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class ContainerSpec(_View, frozen=True):
    """An init container's declaration; ``restart_policy`` ``Always`` makes it a native sidecar."""

    name: str = ""
    restart_policy: str | None = None


class PodSpec(_View, frozen=True):
    """``spec`` of a Pod, as far as an outcome needs it."""

    node_name: str | None = None
    init_containers: tuple[ContainerSpec, ...] | None = None


class PodView(_View, frozen=True):
    """A Pod as the worker sees it."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec | None = None
    status: PodStatus | None = None

    def __post_init__(self) -> None:
        if not self.has_ended:
            _share_words(self)

    @property
    def phase(self) -> str:
        """``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Unknown``; empty where unsaid."""
        return (self.status.phase if self.status else None) or ""

    @property
    def has_ended(self) -> bool:
        """Whether no container of the Pod runs any more, nor ever will."""
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
        """Names of the init containers that run beside the task for as long as it runs."""
        declared = self.spec.init_containers if self.spec else None
        return frozenset(c.name for c in declared or () if c.restart_policy == "Always")


#: The phases of a Pod of which no container runs any more, nor ever will.
_ENDED: Final = frozenset({"Succeeded", "Failed"})


def _share_marks(metadata: ObjectMeta) -> None:
    """Have objects share what names their worker, and Jobs what names the process that made them."""
    _share(metadata, "namespace")
    if metadata.labels is not None:
        _share(metadata.labels, "worker_id", "worker_hash")
    if metadata.annotations is not None:
        _share(metadata.annotations, "owner")


def _share_words(pod: PodView) -> None:
    """Have a Pod share the words of its spec and status."""
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


def last_pod(pods: Iterable[PodView]) -> PodView | None:
    """The newest Pod of a Job: where a Pod is started again, what became of it becomes of the task."""
    return max(pods, key=lambda pod: pod.metadata.creation_timestamp or "", default=None)


class ObjectReference(_View, frozen=True):
    """What an event is about (core/v1, ObjectReference)."""

    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class EventSource(_View, frozen=True):
    """Who wrote an event (core/v1, EventSource)."""

    component: str | None = None


class EventSeries(_View, frozen=True):
    """An event that was repeated (core/v1, EventSeries)."""

    count: int | None = None
    last_observed_time: str | None = None


class EventView(_View, frozen=True):
    """An event (core/v1, Event); ``type`` is ``Normal`` or ``Warning``."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference | None = None
    type: str | None = None
    reason: str | None = None
    message: str | None = None
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: EventSeries | None = None
    source: EventSource | None = None
    reporting_component: str | None = None

    @property
    def component(self) -> str:
        """Who wrote it, such as ``kubelet``: the two APIs of events have a field each."""
        return (self.source.component if self.source else None) or self.reporting_component or ""

    @property
    def time(self) -> str | None:
        """When the event last happened (RFC 3339); the two APIs of events have fields of their own."""
        repeated = self.series.last_observed_time if self.series else None
        return repeated or self.last_timestamp or self.event_time or self.metadata.creation_timestamp


def last_seen(event: EventView) -> float:
    """When an event last happened, in epoch seconds of the cluster; 0 where it does not say."""
    return datetime.fromisoformat(event.time).timestamp() if event.time else 0.0
