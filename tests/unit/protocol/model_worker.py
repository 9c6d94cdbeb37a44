"""A worker process in miniature, for the model of delivery, around a real session, outbox and log book.

It follows the rules of ``worker.py`` step by step, so that anything may happen in between.
The process may die at any time; what ``Jobs`` holds stays, and the next one takes it over.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from oz_agent_worker.protocol.frames import WorkerHello
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import Outcome, cancelled
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import (
    Assigned,
    CancellationRequested,
    Delivered,
    Event,
    Ping,
    Session,
    Text,
)

from .model_plane import ModelPlane, Wire

__all__ = ["Job", "Jobs", "ModelWorker", "Step"]

CAPACITY = 2


@dataclass
class Job:
    """The durable record of one execution."""

    log: bytearray = field(default_factory=bytearray)
    outcome: Outcome | None = None

    def end(self, outcome: Outcome) -> None:
        self.outcome = self.outcome or outcome


@dataclass
class Jobs:
    """The cluster: what stands, and how often each execution was started."""

    standing: dict[ExecutionKey, Job] = field(default_factory=dict)
    started: Counter[ExecutionKey] = field(default_factory=Counter)
    output: dict[ExecutionKey, bytes] = field(default_factory=dict)

    @property
    def running(self) -> list[ExecutionKey]:
        return [key for key, job in self.standing.items() if job.outcome is None]

    def create(self, key: ExecutionKey) -> None:
        """Start an execution; one that stands is adopted."""
        if key not in self.standing:
            self.standing[key] = Job()
            self.started[key] += 1

    def delete(self, key: ExecutionKey) -> None:
        self.output[key] = bytes(self.standing.pop(key).log)


@dataclass
class Step:
    """How far the worker is with an execution."""

    stands: bool = False
    stop: bool = False
    printed: int = 0
    reported: bool = False
    delivered: bool = False


class ModelWorker:
    """One process. ``told`` hears of each report that counts as delivered."""

    def __init__(self, jobs: Jobs, told: Callable[[TerminalReport], None]) -> None:
        self.jobs = jobs
        self.told = told
        self.outbox = Outbox()
        self.logs = LogBuffers()
        self.steps: dict[ExecutionKey, Step] = {}
        self.wire: Wire | None = None
        self.session: Session | None = None
        self.writing: Iterator[Text | Ping] | None = None
        for key in jobs.standing:
            self.steps[key] = Step()
            self._stands(key)

    # ---------------------------------------------------------------------- connection

    def connect(self, plane: ModelPlane, now: float) -> None:
        hello = WorkerHello(
            worker_id="w",
            version="1",
            backend="test",
            instance="i",
            executions=list(self.steps),
        )
        self.writing = None
        self.wire = plane.connect()
        self.session = Session(
            self.outbox, self.logs, worker_id="w", capabilities=plane.capabilities, hello=hello, now=now
        )

    def leave(self) -> None:
        self.wire = self.session = self.writing = None

    def write(self, count: int, now: float) -> None:
        """Write some messages; may stop amid a turn."""
        assert self.wire is not None
        assert self.session is not None
        for _ in range(count):
            if self.writing is None:
                self.writing = self.session.data_to_send(now)
            message = next(self.writing, None)
            if message is None:
                self.writing = None
                return
            self.wire.send_up(message)

    def read(self, now: float) -> None:
        """Read one message and act on it."""
        assert self.wire is not None
        assert self.session is not None
        message = self.wire.down.popleft()
        if isinstance(message, bytes):
            self._on_event(self.session.receive_pong(message, now))
        else:
            self._on_event(self.session.receive_text(message, now))

    def _on_event(self, event: Event) -> None:
        match event:
            case Assigned(assignment):
                self._assigned(assignment.key)
            case CancellationRequested(task_id, execution_id):
                self._cancelled(task_id, execution_id)
            case Delivered(reports):
                for report in reports:
                    self.told(report)
                    self.steps[report.key].delivered = True
            case _:
                raise AssertionError(event)

    def _assigned(self, key: ExecutionKey) -> None:
        assert self.session is not None
        standing = self.steps.get(key)
        if standing is not None and not standing.delivered:
            return
        active = sum(not step.reported for step in self.steps.values())
        if standing is not None or active >= CAPACITY:
            self.session.reject(key, "at_capacity")
        else:
            self.steps[key] = Step()

    def _cancelled(self, task_id: str, execution_id: str | None) -> None:
        for key, step in self.steps.items():
            if key.task_id == task_id and execution_id in (None, key.execution_id) and not step.reported:
                step.stop = True
                if step.stands:
                    self.jobs.standing[key].end(cancelled())

    # ---------------------------------------------------------------------------- work

    def launch(self, key: ExecutionKey) -> None:
        """The record stands: claim the execution, and what was written meanwhile may follow."""
        self.jobs.create(key)
        self._stands(key)

    def fail_to_launch(self, key: ExecutionKey) -> None:
        """The backend is out of reach: hand the execution back, if there is somebody to hear it."""
        del self.steps[key]
        if self.session is not None:
            self.session.reject(key, "backend_unavailable")

    def _stands(self, key: ExecutionKey) -> None:
        step = self.steps[key]
        step.stands = True
        self.outbox.add(Claim(key))
        if step.stop:
            self.jobs.standing[key].end(cancelled())

    def observe(self, key: ExecutionKey) -> None:
        """See what the execution printed, and whether it ended."""
        step, job = self.steps[key], self.jobs.standing[key]
        if self.logs.wanted or (self.logs.wanted is None and job.outcome is not None):
            self.logs.write(key, bytes(job.log[step.printed :]))
            step.printed = len(job.log)
        if job.outcome is not None:
            self.logs.write(key, b"", final=True)
            step.reported = True
            self.outbox.add(TerminalReport(key, job.outcome))

    def release(self, key: ExecutionKey) -> None:
        """The report is delivered: the record goes."""
        self.jobs.delete(key)
        self.logs.forget(key)
        del self.steps[key]

    # ------------------------------------------------------------------- what is to do

    @property
    def to_do(self) -> list[ExecutionKey]:
        """The executions with which the worker can go on by itself."""
        return [*self.launching, *filter(self._has_news, self.observable), *self.releasable]

    def _has_news(self, key: ExecutionKey) -> bool:
        job = self.jobs.standing[key]
        return job.outcome is not None or bool(self.logs.wanted and len(job.log) > self.steps[key].printed)

    @property
    def launching(self) -> list[ExecutionKey]:
        return [key for key, step in self.steps.items() if not step.stands]

    @property
    def observable(self) -> list[ExecutionKey]:
        return [key for key, step in self.steps.items() if step.stands and not step.reported]

    @property
    def releasable(self) -> list[ExecutionKey]:
        return [key for key, step in self.steps.items() if step.delivered]
