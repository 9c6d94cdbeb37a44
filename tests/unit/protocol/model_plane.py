"""A control plane in miniature, for the model of delivery: its queue, its store and its wires.

What it decides by rules of the product's own (``scheduling.place_runs``, the table of states) it
takes from there. What a store keeps is kept whatever breaks; what is on a wire is not.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState, can_move
from oz_agent_worker.controlplane.rules.scheduling import ConnectionSnapshot, place_runs
from oz_agent_worker.protocol import frames as frames
from oz_agent_worker.protocol.frames import Capability
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.protocol.session import Ping, Text

__all__ = ["Luck", "ModelPlane", "Run", "Wire"]

#: What becomes of a report inside a peer that acknowledges: stored and acknowledged; stored,
#: and the ack lost; lost.
Luck = Literal["good", "unacknowledged", "dropped"]

_PLAIN_ENDS = {frames.TaskCompleted: RunState.SUCCEEDED, frames.TaskFailed: RunState.FAILED}


@dataclass(eq=False)
class Wire:
    """One connection: whole messages, in order, in both directions. Either side may have left."""

    number: int
    plane_open: bool = True
    ready: bool = False
    up: deque[Text | Ping] = field(default_factory=deque)
    down: deque[str | bytes] = field(default_factory=deque)

    def send_down(self, message: str | bytes) -> None:
        if self.plane_open:
            self.down.append(message)

    def send_up(self, message: Text | Ping) -> None:
        if self.plane_open:
            self.up.append(message)


@dataclass
class Run:
    """A run as its row in the store; ``holder`` is memory, and gone with the wire."""

    task_id: str
    attempt: int = 1
    state: RunState = RunState.QUEUED
    holder: Wire | None = None
    cancel_requested: bool = False

    @property
    def key(self) -> ExecutionKey:
        return ExecutionKey(self.task_id, f"{self.task_id}-e{self.attempt}")

    def move(self, state: RunState) -> None:
        assert can_move(self.state, state), f"{self.state} -> {state}"
        self.state = state


class ModelPlane:
    """Hands out runs and stores what a worker says of them, idempotently for each execution."""

    def __init__(self, capabilities: frozenset[Capability]) -> None:
        self.capabilities = capabilities
        self.runs: dict[str, Run] = {}
        self.wires: list[Wire] = []
        self.claimed: set[ExecutionKey] = set()
        self.reported: set[ExecutionKey] = set()
        self.ends: dict[ExecutionKey, RunState] = {}
        self.logs: dict[ExecutionKey, bytearray] = {}
        self._count = 0

    @property
    def acknowledges(self) -> bool:
        return Capability.ACK in self.capabilities

    @property
    def expects_hello(self) -> bool:
        return Capability.HELLO in self.capabilities

    # --------------------------------------------------------------------------- users

    def submit(self) -> None:
        task_id = f"run-{len(self.runs) + 1}"
        self.runs[task_id] = Run(task_id)

    def cancel(self, run: Run) -> None:
        """A user cancels a worker's run: each connection and each later claim gets the cancellation."""
        run.cancel_requested = True
        for wire in self.wires:
            self._send_cancellation(wire, run.key)

    # --------------------------------------------------------------------------- wires

    def connect(self) -> Wire:
        self._count += 1
        wire = Wire(self._count)
        self.wires.append(wire)
        if not self.expects_hello:
            self._ready(wire, frozenset())
        return wire

    def close(self, wire: Wire) -> None:
        """What was sent over it and is not claimed goes out again over another, where there is one."""
        wire.plane_open = False
        wire.up.clear()
        self.wires.remove(wire)
        others = [other for other in self.wires if other.ready]
        for run in [run for run in self.runs.values() if run.holder is wire]:
            run.holder = None
            if run.state is RunState.PENDING and others:
                self._assign(run, others[-1])

    def _ready(self, wire: Wire, listed: frozenset[ExecutionKey]) -> None:
        """The worker says what it has, or cannot: whatever else is its own is sent again.

        Where a worker says hello, what it does not list it does not have.
        """
        wire.ready = True
        states = (RunState.PENDING, RunState.CLAIMED) if self.expects_hello else (RunState.PENDING,)
        for run in self.runs.values():
            if run.state in states and run.key not in listed:
                self._assign(run, wire)

    def _send_cancellation(self, wire: Wire, key: ExecutionKey) -> None:
        execution_id = key.execution_id if self.expects_hello else None
        frame = frames.TaskCancellation(task_id=key.task_id, execution_id=execution_id)
        wire.send_down(frames.encode_frame(frame))

    # --------------------------------------------------------------------------- queue

    def dispatch(self) -> None:
        waiting = [
            RunRecord(id=run.task_id, execution_id="e", state=run.state)
            for run in self.runs.values()
            if run.state is RunState.QUEUED
        ]
        wires = {wire.number: wire for wire in self.wires if wire.ready}
        connections = [ConnectionSnapshot(number, Peer("w")) for number in wires]
        for assignment in place_runs(waiting, connections):
            run = self.runs[assignment.run_id]
            assert run.holder is None
            run.move(RunState.PENDING)
            self._assign(run, wires[assignment.connection_id])

    def _assign(self, run: Run, wire: Wire) -> None:
        run.holder = wire
        frame = frames.TaskAssignment(
            task_id=run.task_id, execution_id=run.key.execution_id, task=frames.Task(id=run.task_id)
        )
        wire.send_down(frames.encode_frame(frame))

    def expire_lease(self, run: Run, *, safe_to_retry: bool) -> None:
        """The worker stayed away too long: the execution has ended, as far as this side knows."""
        run.holder = None
        self.ends[run.key] = RunState.ERROR
        if safe_to_retry and can_move(run.state, RunState.QUEUED):
            run.move(RunState.QUEUED)
            run.attempt += 1
            run.cancel_requested = False
        else:
            run.move(RunState.ERROR)

    # ------------------------------------------------------------------------- reading

    def read(self, wire: Wire, luck: Luck = "good") -> None:
        message = wire.up.popleft()
        if isinstance(message, Ping):
            wire.send_down(message.payload)
            return
        frame = frames.decode_worker_frame(message.text)
        assert wire.ready or isinstance(frame, frames.WorkerHello), "the hello comes first"
        match frame:
            case frames.WorkerHello():
                self._on_hello(wire, frame)
            case frames.TaskClaimed():
                self._claim(wire, self._key(frame.task_id, frame.execution_id))
            case frames.TaskRejected():
                self._rejected(wire, self._key(frame.task_id, frame.execution_id))
            case frames.TaskLog():
                self._output(ExecutionKey(frame.task_id, frame.execution_id), frame.offset, frame.text)
            case frames.TaskCompleted() | frames.TaskFailed():
                self._ended(wire, frame, luck)

    def _key(self, task_id: str, execution_id: str | None) -> ExecutionKey:
        """A public peer's frame names no execution: the run's present one is meant."""
        assert (execution_id is not None) == self.acknowledges
        return self.runs[task_id].key if execution_id is None else ExecutionKey(task_id, execution_id)

    def _on_hello(self, wire: Wire, frame: frames.WorkerHello) -> None:
        # A worker has one connection: what its others have still to say, this one repeats.
        for other in [other for other in self.wires if other.number < wire.number]:
            self.close(other)
        listed = frozenset(ExecutionKey(e.task_id, e.execution_id) for e in frame.executions or ())
        for key in listed:
            self._claim(wire, key)
        self._ready(wire, listed)

    def _claim(self, wire: Wire, key: ExecutionKey) -> None:
        run = self.runs[key.task_id]
        self.claimed.add(key)
        if run.state in TERMINAL or run.key != key:
            self._send_cancellation(wire, key)
            return
        run.holder = wire
        if run.state in (RunState.QUEUED, RunState.PENDING):
            run.move(RunState.CLAIMED)
        if run.cancel_requested:
            self._send_cancellation(wire, key)

    def _rejected(self, wire: Wire, key: ExecutionKey) -> None:
        run = self.runs[key.task_id]
        if run.key == key and run.holder is wire and run.state in (RunState.PENDING, RunState.CLAIMED):
            run.holder = None
            run.move(RunState.CANCELLED if run.cancel_requested else RunState.QUEUED)

    def _output(self, key: ExecutionKey, offset: int, text: str) -> None:
        assert Capability.LOGS in self.capabilities
        assert key in self.claimed, "output before its claim"
        run, log = self.runs[key.task_id], self.logs.setdefault(key, bytearray())
        assert offset <= len(log), "a gap in the output"
        fresh = text.encode()[len(log) - offset :]
        assert not (fresh and key in self.reported), "output after the end"
        log += fresh
        if run.key == key and run.state is RunState.CLAIMED:
            run.move(RunState.INPROGRESS)

    def _ended(self, wire: Wire, frame: frames.TaskCompleted | frames.TaskFailed, luck: Luck) -> None:
        key = self._key(frame.task_id, frame.execution_id)
        assert key in self.claimed, "an end before its claim"
        assert (frame.ack_id is not None) == self.acknowledges
        if frame.ack_id is None or luck != "dropped":
            self._store_end(key, frame)
        if frame.ack_id is not None and luck == "good":
            wire.send_down(frames.encode_frame(frames.Ack(ack_id=frame.ack_id)))

    def _store_end(self, key: ExecutionKey, frame: frames.TaskCompleted | frames.TaskFailed) -> None:
        """The first report of an execution counts, and only if the run is still about that one."""
        self.reported.add(key)
        run = self.runs[key.task_id]
        if run.key != key or run.state in TERMINAL:
            return
        state = RunState.CANCELLED if frame.task_state == RunState.CANCELLED else _PLAIN_ENDS[type(frame)]
        run.holder = None
        run.move(state)
        assert key not in self.ends, "a second end"
        self.ends[key] = state
