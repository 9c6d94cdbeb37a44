"""Workers as the model of the control plane has them: what they have, what they started, how they die.

A worker starts what it was sent at most once in one *start scope*: a cluster, where a Job's name
identifies the execution; the workspace of a host, where a journal does; or, for a public
worker, its own memory alone.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from oz_agent_worker.controlplane.gateway.connections import WorkerConnection
from oz_agent_worker.controlplane.rules.ownership import KUBERNETES, Peer
from oz_agent_worker.protocol.frames import (
    ExecutionKey,
    TaskAssignment,
    TaskCancellation,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskLog,
    TaskRejected,
    WorkerHello,
    encode_frame,
)
from tests.unit.protocol.public_schema import frame_faults

from .plane import heard

__all__ = ["Execution", "Fleet", "Worker"]

Execution = tuple[str, str]


@dataclass
class Fleet:
    """All workers, and what was started where: ``start_scopes`` by execution.

    ``seen`` are all executions in the order in which they were sent first.
    """

    seen: dict[Execution, None] = field(default_factory=dict)
    start_scopes: dict[Execution, set[str]] = field(default_factory=dict)
    jobs: dict[Execution, "Worker | None"] = field(default_factory=dict)
    journals: dict[str, set[Execution]] = field(default_factory=dict)

    def in_order(self, executions: Collection[Execution]) -> list[Execution]:
        """In an order that is the same in every run of a test, as their IDs are not."""
        return [execution for execution in self.seen if execution in executions]


@dataclass
class Worker:
    """A process. ``inbox``: sent, and neither started nor rejected; ``running``: started.

    ``launching`` are those of the latter that it has not spoken of: a hello does not list them.
    """

    fleet: Fleet
    peer: Peer
    connection: WorkerConnection | None = None
    inbox: set[Execution] = field(default_factory=set)
    running: set[Execution] = field(default_factory=set)
    launching: set[Execution] = field(default_factory=set)
    cancelled_executions: set[Execution] = field(default_factory=set)

    @property
    def start_scope(self) -> str:
        if self.peer.backend == KUBERNETES:
            return "cluster"
        return self.peer.instance or f"process {id(self)}"

    @property
    def has_work(self) -> bool:
        """Whether it was sent something that it has not started, read or not."""
        return bool(self.inbox or (self.connection and not self.connection.outgoing.empty()))

    def read(self) -> None:
        """Take what the control plane sent."""
        assert self.connection is not None
        for frame in heard(self.connection):
            if not self.peer.sent_hello:
                assert frame_faults(encode_frame(frame)) == [], "it negotiated nothing"
            match frame:
                case TaskAssignment():
                    execution = (frame.task_id or "", frame.execution_id or "")
                    self.fleet.seen.setdefault(execution)
                    if execution not in self.running:
                        self.inbox.add(execution)
                case TaskCancellation():
                    stopped = {
                        e
                        for e in self.running | self.inbox
                        if e[0] == frame.task_id and frame.execution_id in (None, e[1])
                    }
                    self.inbox -= stopped
                    self.cancelled_executions |= stopped & self.running
                case _:
                    pass

    def start(self, execution: Execution) -> None:
        """Start what was sent; what exists already is adopted."""
        self.inbox.discard(execution)
        self.running.add(execution)
        self.launching.add(execution)
        self.fleet.start_scopes.setdefault(execution, set()).add(self.start_scope)
        if self.start_scope == "cluster":
            self.fleet.jobs[execution] = self
        elif self.peer.instance is not None:
            self.fleet.journals.setdefault(self.start_scope, set()).add(execution)

    def forget(self, execution: Execution) -> None:
        """Its end was delivered."""
        self.running.discard(execution)
        self.launching.discard(execution)
        self.cancelled_executions.discard(execution)
        if self.start_scope == "cluster":
            self.fleet.jobs.pop(execution, None)
        self.fleet.journals.get(self.start_scope, set()).discard(execution)

    def die(self) -> None:
        """Lose all that is in memory."""
        self.inbox.clear()
        self.running.clear()
        self.launching.clear()
        self.cancelled_executions.clear()
        for execution, owner in self.fleet.jobs.items():
            if owner is self:
                self.fleet.jobs[execution] = None

    def find(self) -> None:
        """Look for what an earlier process left, before the hello."""
        if self.start_scope == "cluster":
            for execution, owner in self.fleet.jobs.items():
                if owner is None:
                    self.fleet.jobs[execution] = self
                    self.running.add(execution)
        else:
            self.running |= self.fleet.journals.get(self.start_scope, set())

    def hello(self) -> WorkerHello:
        held = self.fleet.in_order((self.running | self.inbox) - self.launching)
        return WorkerHello(
            worker_id=self.peer.worker_id,
            version="1",
            backend=self.peer.backend or "",
            instance=self.peer.instance,
            executions=[ExecutionKey(task_id=run, execution_id=execution) for run, execution in held],
        )

    def _named(self, execution: Execution) -> str | None:
        return execution[1] if self.peer.sent_hello else None

    def claim(self, execution: Execution) -> TaskClaimed:
        self.launching.discard(execution)
        return TaskClaimed(
            task_id=execution[0], worker_id=self.peer.worker_id, execution_id=self._named(execution)
        )

    def reject(self, execution: Execution) -> TaskRejected:
        return TaskRejected(task_id=execution[0], reason="full", execution_id=self._named(execution))

    def output(self, execution: Execution) -> TaskLog:
        self.launching.discard(execution)
        return TaskLog(task_id=execution[0], execution_id=execution[1], offset=0, text="hi")

    def report(self, execution: Execution) -> TaskCompleted | TaskFailed:
        cancelled = "CANCELLED" if execution in self.cancelled_executions else None
        return TaskCompleted(
            task_id=execution[0],
            message="",
            task_state=cancelled,
            execution_id=self._named(execution),
            ack_id="1" if self.peer.sent_hello else None,
        )
