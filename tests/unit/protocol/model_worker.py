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
    """The cluster: its Jobs, and how often each execution was started."""

    jobs_by_key: dict[ExecutionKey, Job] = field(default_factory=dict)
    started: Counter[ExecutionKey] = field(default_factory=Counter)
    output: dict[ExecutionKey, bytes] = field(default_factory=dict)

    @property
    def running(self) -> list[ExecutionKey]:
        return [key for key, job in self.jobs_by_key.items() if job.outcome is None]

    def create(self, key: ExecutionKey) -> None:
        """Start an execution; an existing one is adopted."""
        if key not in self.jobs_by_key:
            self.jobs_by_key[key] = Job()
            self.started[key] += 1

    def delete(self, key: ExecutionKey) -> None:
        self.output[key] = bytes(self.jobs_by_key.pop(key).log)


@dataclass
class Step:
    """How far the worker is with an execution."""

    launched: bool = False
    stop: bool = False
    printed: int = 0
    reported: bool = False
    delivered: bool = False


class ModelWorker:
    """One process. ``on_delivered`` is called with each delivered report."""

    def __init__(self, jobs: Jobs, on_delivered: Callable[[TerminalReport], None]) -> None:
        self.jobs = jobs
        self.on_delivered = on_delivered
        self.outbox = Outbox()
        self.logs = LogBuffers()
        self.steps: dict[ExecutionKey, Step] = {}
        self.wire: Wire | None = None
        self.session: Session | None = None
        self.writing: Iterator[Text | Ping] | None = None
        for key in jobs.jobs_by_key:
            self.steps[key] = Step()
            self._on_started(key)

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
                    self.on_delivered(report)
                    self.steps[report.key].delivered = True
            case _:
                raise AssertionError(event)

    def _assigned(self, key: ExecutionKey) -> None:
        assert self.session is not None
        jobs_by_key = self.steps.get(key)
        if jobs_by_key is not None and not jobs_by_key.delivered:
            return
        active = sum(not step.reported for step in self.steps.values())
        if jobs_by_key is not None or active >= CAPACITY:
            self.session.reject(key, "at_capacity")
        else:
            self.steps[key] = Step()

    def _cancelled(self, task_id: str, execution_id: str | None) -> None:
        for key, step in self.steps.items():
            if key.task_id == task_id and execution_id in (None, key.execution_id) and not step.reported:
                step.stop = True
                if step.launched:
                    self.jobs.jobs_by_key[key].end(cancelled())

    # ---------------------------------------------------------------------------- work

    def launch(self, key: ExecutionKey) -> None:
        """The Job exists: claim the execution; output may follow."""
        self.jobs.create(key)
        self._on_started(key)

    def fail_to_launch(self, key: ExecutionKey) -> None:
        """The backend is out of reach: hand the execution back, if there is somebody to hear it."""
        del self.steps[key]
        if self.session is not None:
            self.session.reject(key, "backend_unavailable")

    def _on_started(self, key: ExecutionKey) -> None:
        step = self.steps[key]
        step.launched = True
        self.outbox.add(Claim(key))
        if step.stop:
            self.jobs.jobs_by_key[key].end(cancelled())

    def observe(self, key: ExecutionKey) -> None:
        """See what the execution printed, and whether it ended."""
        step, job = self.steps[key], self.jobs.jobs_by_key[key]
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
        job = self.jobs.jobs_by_key[key]
        return job.outcome is not None or bool(self.logs.wanted and len(job.log) > self.steps[key].printed)

    @property
    def launching(self) -> list[ExecutionKey]:
        return [key for key, step in self.steps.items() if not step.launched]

    @property
    def observable(self) -> list[ExecutionKey]:
        return [key for key, step in self.steps.items() if step.launched and not step.reported]

    @property
    def releasable(self) -> list[ExecutionKey]:
        return [key for key, step in self.steps.items() if step.delivered]
