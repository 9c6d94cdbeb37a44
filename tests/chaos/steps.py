"""The table of steps: where in a task's life a process can be killed.

A step is a passage through a function of the product: just before its body or just after
it has returned. Functions that write frames carry every kind of frame, so such a step names
the kind as well. Steps that no function marks are watched from outside.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["STEPS", "Moment", "Side", "Step", "find", "steps_of"]


class Side(StrEnum):
    """Whose step it is: the process that is killed there."""

    WORKER = "worker"
    CONTROL_PLANE = "control-plane"


class Moment(StrEnum):
    """When: before the function runs, after it has returned, or as seen from outside."""

    BEFORE = "before"
    AFTER = "after"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    ``target`` is ``module:attribute.path`` of the function, as its callers look it up, and
    empty for a step that is watched from outside. ``frame`` is the type of the frame that one of
    its arguments must be. ``sharp``: a promise hangs on just this step, so that a short run has
    it for sure. ``rare``: a run without faults does not pass through it. ``early``: it comes once in
    a process's life, at its beginning.
    """

    name: str
    side: Side
    moment: Moment
    target: str = ""
    frame: str = ""
    backend: str = ""
    sharp: bool = False
    rare: bool = False
    early: bool = False

    def serves(self, backend: str) -> bool:
        """Whether a worker with this backend passes through it."""
        return self.backend in ("", backend)


_W, _C = Side.WORKER, Side.CONTROL_PLANE
_B, _A, _O = Moment.BEFORE, Moment.AFTER, Moment.OUTSIDE

_WORKER: Final = "oz_agent_worker.worker.worker:Worker"
_CLIENT: Final = "oz_agent_worker.worker.backends.kubernetes.api.client:KubernetesClient"
_BACKEND: Final = "oz_agent_worker.worker.backends.kubernetes.backend"
_EXECUTION: Final = "oz_agent_worker.worker.backends.kubernetes.execution:KubernetesExecution"
_JOURNAL: Final = "oz_agent_worker.worker.backends.journal"
_HOST: Final = "oz_agent_worker.worker.backends.direct.execution"
_INDEX: Final = "oz_agent_worker.worker.backends.kubernetes.watch.job_index:JobIndex"
_WRITES: Final = "aiohttp:ClientWebSocketResponse.send_str"
_FRAME_HANDLER: Final = "oz_agent_worker.controlplane.gateway.frame_handler:FrameHandler"
_API: Final = "oz_agent_worker.controlplane.api.runs:RunsApi"
_STORE: Final = "oz_agent_worker.controlplane.store"
_SENDS: Final = "starlette.websockets:WebSocket.send_text"
_K8S: Final = "kubernetes"
_DIRECT: Final = "direct"

STEPS: Final[tuple[Step, ...]] = (
    # The worker comes up.
    Step("worker-starting", _W, _O, rare=True, early=True),
    Step("preflight-job-created", _W, _A, f"{_CLIENT}.create_job", backend=_K8S, early=True),
    Step("take-over-begun", _W, _B, f"{_WORKER}.adopt", rare=True, early=True),
    Step("taken-over", _W, _A, f"{_WORKER}.adopt", rare=True, early=True),
    Step("hello-unsent", _W, _B, _WRITES, frame="worker_hello", early=True),
    Step("hello-sent", _W, _A, _WRITES, frame="worker_hello", early=True),
    # A task is assigned and its Job created.
    Step("assignment-received", _W, _B, f"{_WORKER}._assigned"),
    Step("job-uncreated", _W, _B, f"{_BACKEND}:create_or_adopt", backend=_K8S, sharp=True),
    Step("job-created", _W, _A, f"{_BACKEND}:create_or_adopt", backend=_K8S, sharp=True),
    Step("secret-uncreated", _W, _B, f"{_CLIENT}.create_secret", backend=_K8S),
    Step("secret-created", _W, _A, f"{_CLIENT}.create_secret", backend=_K8S),
    Step("record-unwritten", _W, _B, f"{_JOURNAL}:Journal.create", backend=_DIRECT),
    Step("record-written", _W, _A, f"{_JOURNAL}:Journal.create", backend=_DIRECT),
    Step("process-unrecorded", _W, _B, f"{_JOURNAL}:JournalRecord.save", backend=_DIRECT, sharp=True),
    Step("process-recorded", _W, _A, f"{_JOURNAL}:JournalRecord.save", backend=_DIRECT),
    Step("claim-unsent", _W, _B, _WRITES, frame="task_claimed"),
    Step("claim-sent", _W, _A, _WRITES, frame="task_claimed"),
    # It runs.
    Step("job-event-seen", _W, _A, f"{_INDEX}.on_job_change", backend=_K8S),
    Step("pod-event-seen", _W, _A, f"{_INDEX}.on_pod_change", backend=_K8S),
    Step("task-running", _W, _O),
    Step("task-ended", _W, _O),
    # It ends, is reported, and is cleaned up after.
    Step("outcome-unwritten", _W, _B, f"{_JOURNAL}:JournalRecord.conclude", backend=_DIRECT),
    Step("outcome-written", _W, _A, f"{_JOURNAL}:JournalRecord.conclude", backend=_DIRECT, sharp=True),
    Step("outcome-judged", _W, _B, f"{_WORKER}._report"),
    Step("report-queued", _W, _A, "oz_agent_worker.protocol.outbox:Outbox.add"),
    Step("report-unsent", _W, _B, _WRITES, frame="terminal", sharp=True),
    Step("report-sent", _W, _A, _WRITES, frame="terminal", sharp=True),
    Step("ack-received", _W, _B, f"{_WORKER}._delivered"),
    Step("release-begun", _W, _B, f"{_EXECUTION}.release", backend=_K8S),
    Step("released", _W, _A, f"{_EXECUTION}.release", backend=_K8S),
    Step("host-release-begun", _W, _B, f"{_HOST}:HostExecution.release", backend=_DIRECT),
    Step("record-removed", _W, _A, f"{_JOURNAL}:JournalRecord.remove", backend=_DIRECT),
    Step("host-released", _W, _A, f"{_HOST}:HostExecution.release", backend=_DIRECT),
    # Somebody cancels it.
    Step("cancellation-received", _W, _B, f"{_WORKER}._cancel"),
    Step("cancel-delete-begun", _W, _B, f"{_EXECUTION}.stop", backend=_K8S),
    Step("cancel-deleted", _W, _A, f"{_EXECUTION}.stop", backend=_K8S),
    Step("host-stop-begun", _W, _B, f"{_HOST}:DirectExecution.stop", backend=_DIRECT),
    Step("host-stopped", _W, _A, f"{_HOST}:DirectExecution.stop", backend=_DIRECT),
    Step("worker-any-moment", _W, _O),
    # The control plane: a run comes in and goes out to a worker.
    Step("run-asked", _C, _B, f"{_API}.create"),
    Step("run-uncommitted", _C, _A, f"{_STORE}.runs:create"),
    Step("run-unanswered", _C, _A, f"{_API}.create", sharp=True),
    Step("assignment-uncommitted", _C, _A, f"{_STORE}.queue:assign"),
    Step(
        "assignment-unsent",
        _C,
        _B,
        "oz_agent_worker.controlplane.gateway.dispatcher:task_assignment",
        sharp=True,
    ),
    Step("assignment-sent", _C, _A, _SENDS, frame="task_assignment"),
    # What workers say of it.
    Step("hello-received", _C, _B, f"{_FRAME_HANDLER}._on_hello", early=True),
    Step("hello-applied", _C, _A, f"{_FRAME_HANDLER}._on_hello", early=True),
    Step("claim-received", _C, _B, f"{_FRAME_HANDLER}._on_claimed"),
    Step("claim-uncommitted", _C, _A, f"{_STORE}.reports:claim"),
    Step("claim-applied", _C, _A, f"{_FRAME_HANDLER}._on_claimed"),
    Step("report-received", _C, _B, f"{_FRAME_HANDLER}._on_ended", sharp=True),
    Step("report-uncommitted", _C, _A, f"{_STORE}.reports:finish", sharp=True),
    Step("ack-unsent", _C, _B, _SENDS, frame="ack", sharp=True),
    Step("ack-sent", _C, _A, _SENDS, frame="ack"),
    # Somebody cancels it.
    Step("cancel-asked", _C, _B, f"{_API}.cancel"),
    Step("cancel-uncommitted", _C, _A, f"{_STORE}.reports:cancel"),
    Step("cancel-unanswered", _C, _A, f"{_API}.cancel"),
    Step("cancellation-unsent", _C, _B, _SENDS, frame="task_cancellation"),
    Step("cancellation-sent", _C, _A, _SENDS, frame="task_cancellation"),
    Step("control-plane-any-moment", _C, _O),
)
"""Every step, in the order of a task's life."""


def steps_of(side: Side, backend: str) -> tuple[Step, ...]:
    """The steps of one side where the worker has this backend."""
    return tuple(step for step in STEPS if step.side is side and step.serves(backend))


def find(name: str) -> Step:
    """The step of a name. Raises LookupError."""
    for step in STEPS:
        if step.name == name:
            return step
    raise LookupError(f"there is no step {name!r}")
