"""Delivery over connections that break at any point, against a model of the control plane.

The machine plays a worker and its peer by turns: claims, output and reports come up; frames
are written one at a time; the peer reads some of them and answers; the connection breaks and
takes all that is on its way with it. What must hold whatever happens:

- for one execution the peer sees its claim, then its output, then its end, at least once each;
- a report counts as delivered only once the peer has it, and exactly once;
- the peer's log, put together by offsets, is what the task wrote;
- at the end the worker owes nothing.
"""

import codecs
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.frames import Ack, Capability, WorkerHello, encode_frame
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import Outcome, cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import Delivered, FrameIgnored, Ping, Session, Text

OUTCOMES = [succeeded(), cancelled(), failed(FailureReason.CONTAINER_EXIT, "broke", exit_code=3)]
TERMINAL = {"task_completed", "task_failed"}
HELLO = WorkerHello(worker_id="w", version="1", backend="test")


@dataclass
class Run:
    """What the peer knows of a run."""

    claims: int = 0
    log: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)


@dataclass
class Peer:
    """A control plane: what it stores survives a connection, what is on its way does not."""

    runs: dict[str, Run] = field(default_factory=dict)
    capabilities: frozenset[Capability] = frozenset()
    first: bool = True
    inbound: deque[Text | Ping] = field(default_factory=deque)
    outbound: deque[Ack | bytes] = field(default_factory=deque)

    def connected(self, capabilities: frozenset[Capability]) -> None:
        self.capabilities = capabilities
        self.first = True
        self.inbound.clear()
        self.outbound.clear()

    def read(self, *, stores: bool = True) -> None:
        """Read the next message; ``stores`` false: a report that it would acknowledge gets lost inside."""
        message = self.inbound.popleft()
        if isinstance(message, Ping):
            self.outbound.append(message.payload)
            return
        frame = json.loads(message.text)
        hello_due = self.first and Capability.HELLO in self.capabilities
        self.first = False
        assert (frame["type"] == "worker_hello") == hello_due
        if frame["type"] == "worker_hello":
            return
        data = frame["data"]
        assert ("execution_id" in data) == (
            Capability.ACK in self.capabilities or frame["type"] == "task_log"
        )
        if frame["type"] == "task_rejected":
            return
        run = self.runs.setdefault(data["task_id"], Run())
        match frame["type"]:
            case "task_claimed":
                run.claims += 1
            case "task_log":
                self._store(run, data)
            case kind:
                self._end(run, kind, data, stores=stores)

    def _store(self, run: Run, data: dict[str, Any]) -> None:
        assert Capability.LOGS in self.capabilities
        assert run.claims, "output before its claim"
        offset, text = data["offset"], data["text"].encode()
        assert offset <= len(run.log), "a gap in the output"
        known = run.log[offset : offset + len(text)]
        assert text[: len(known)] == known
        fresh = text[len(known) :]
        assert not (run.ends and fresh), "output after the end"
        run.log += fresh

    def _end(self, run: Run, kind: str, data: dict[str, Any], *, stores: bool) -> None:
        assert kind in TERMINAL
        assert run.claims, "an end before its claim"
        assert ("ack_id" in data) == (Capability.ACK in self.capabilities)
        if Capability.ACK not in self.capabilities:
            run.ends.append(kind)
        elif stores:
            run.ends.append(kind)
            self.outbound.append(Ack(ack_id=data["ack_id"]))


class DeliveryMachine(RuleBasedStateMachine):
    launching = Bundle("launching")
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.logs = LogBuffers()
        self.peer = Peer()
        self.session: Session | None = None
        self.writing: Iterator[Text | Ping] | None = None
        self.now = 0.0
        self.count = 0
        self.written: dict[ExecutionKey, bytearray] = {}
        self.claimed: set[ExecutionKey] = set()
        self.reported: dict[ExecutionKey, TerminalReport] = {}
        self.delivered: list[TerminalReport] = []
        self.with_logs = False

    # ------------------------------------------------------------------ the connection

    @initialize(with_logs=st.booleans())
    def begin(self, with_logs: bool) -> None:
        self.with_logs = with_logs
        self.connect(frozenset())

    @rule(more=st.frozensets(st.sampled_from([Capability.ACK, Capability.HELLO])))
    def connect(self, more: frozenset[Capability]) -> None:
        """The connection, if there is one, breaks, and takes with it what is on its way."""
        capabilities = more | ({Capability.LOGS} if self.with_logs else set())
        self.writing = None
        self.peer.connected(frozenset(capabilities))
        self.session = Session(
            self.outbox,
            self.logs,
            worker_id="w",
            capabilities=frozenset(capabilities),
            hello=HELLO,
            now=self.now,
        )

    @rule(seconds=st.sampled_from([0.1, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 6))
    def write(self, count: int) -> None:
        """The link writes some messages, and may stop amid a turn."""
        assert self.session is not None
        for _ in range(count):
            if self.writing is None:
                self.writing = self.session.data_to_send(self.now)
            message = next(self.writing, None)
            if message is None:
                self.writing = None
                return
            self.peer.inbound.append(message)

    @precondition(lambda self: self.peer.inbound)
    @rule(count=st.integers(1, 6), stores=st.booleans())
    def peer_reads(self, count: int, stores: bool) -> None:
        for _ in range(min(count, len(self.peer.inbound))):
            self.peer.read(stores=stores)

    @precondition(lambda self: self.peer.outbound)
    @rule(count=st.integers(1, 6))
    def worker_reads(self, count: int) -> None:
        assert self.session is not None
        for _ in range(min(count, len(self.peer.outbound))):
            answer = self.peer.outbound.popleft()
            if isinstance(answer, Ack):
                event = self.session.receive_text(encode_frame(answer), self.now)
            else:
                event = self.session.receive_pong(answer, self.now)
            assert isinstance(event, Delivered)
            self._take(event)

    @rule(payload=st.sampled_from([b"", b"0", b"x", b"1700000000", b"9" * 40]))
    def stray_pong(self, payload: bytes) -> None:
        assert self.session is not None
        assert self.session.receive_pong(payload, self.now) == Delivered(())

    @rule(frame=st.sampled_from(["", '{"type":"ack"}', '{"type":"novelty","data":{}}']))
    def stray_frame(self, frame: str) -> None:
        assert self.session is not None
        assert isinstance(self.session.receive_text(frame, self.now), FrameIgnored)

    @rule()
    def stray_ack(self) -> None:
        assert self.session is not None
        event = self.session.receive_text(encode_frame(Ack(ack_id="run-0/exec-0#999")), self.now)
        assert event == Delivered(())

    def _take(self, event: Delivered) -> None:
        for report in event.reports:
            run = self.peer.runs[report.key.task_id]
            assert run.ends, "delivered, and the peer knows nothing of it"
            self.delivered.append(report)
            self.logs.forget(report.key)

    # ------------------------------------------------------------------------ the work

    @rule(target=launching)
    def launch(self) -> ExecutionKey:
        self.count += 1
        return ExecutionKey(f"run-{self.count}", f"exec-{self.count}")

    @rule(key=launching, chunk=st.binary(min_size=1, max_size=20))
    def print_early(self, key: ExecutionKey, chunk: bytes) -> None:
        if key not in self.claimed:
            self._print(key, chunk, held_back=True)

    @rule(target=running, key=consumes(launching))
    def claim(self, key: ExecutionKey) -> ExecutionKey:
        self.claimed.add(key)
        self.outbox.add(Claim(key))
        self._print(key, b"")
        return key

    @rule(
        key=running,
        chunk=st.binary(min_size=1, max_size=20) | st.integers(60_000, 70_000).map(lambda size: b"x" * size),
    )
    def print_output(self, key: ExecutionKey, chunk: bytes) -> None:
        if key not in self.reported:
            self._print(key, chunk)

    def _print(self, key: ExecutionKey, chunk: bytes, *, held_back: bool = False) -> None:
        self.logs.write(key, chunk, held_back=held_back)
        self.written.setdefault(key, bytearray()).extend(chunk)

    @rule(
        key=consumes(running),
        outcome=st.sampled_from(OUTCOMES),
        last=st.sampled_from([b"", b"half a character: \xe2\x82", b"x" * 150_000]),
    )
    def end(self, key: ExecutionKey, outcome: Outcome, last: bytes) -> None:
        self._print(key, last)
        self.logs.write(key, b"", final=True)
        self.reported[key] = TerminalReport(key, outcome)
        self.outbox.add(self.reported[key])

    @precondition(lambda self: self.session is not None)
    @rule()
    def reject(self) -> None:
        assert self.session is not None
        self.session.reject(ExecutionKey("elsewhere", "elsewhere"), "at_capacity")

    # --------------------------------------------------------------------- what must hold

    @invariant()
    def a_report_is_delivered_once(self) -> None:
        assert len(set(self.delivered)) == len(self.delivered)
        assert self.outbox.unreported == len(self.reported) - len(self.delivered)

    @invariant()
    def the_peer_s_log_is_what_the_task_wrote(self) -> None:
        for key, chunks in self.written.items():
            log = bytes(self.peer.runs.get(key.task_id, Run()).log)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            assert decoder.decode(bytes(chunks), key in self.reported).encode().startswith(log)

    def teardown(self) -> None:
        """A last connection that holds: everything arrives."""
        if self.session is None:
            return
        self.connect(frozenset({Capability.ACK, Capability.HELLO}))
        for _ in range(1000):
            self.write(1000)
            while self.peer.inbound:
                self.peer.read()
            self.worker_reads(len(self.peer.outbound))
            if not (self.outbox.has_due or self.logs.has_due or len(self.outbox)):
                break
        assert len(self.outbox) == 0
        assert not self.logs.has_due
        assert set(self.delivered) == set(self.reported.values())
        for key in self.claimed:
            run = self.peer.runs[key.task_id]
            assert run.claims
            assert bool(run.ends) == (key in self.reported)
            if self.with_logs:
                final = key in self.reported
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                assert bytes(run.log) == decoder.decode(bytes(self.written[key]), final).encode()
        assert all(not self.peer.runs.get(key.task_id) for key in self.written if key not in self.claimed)


DeliveryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDelivery = DeliveryMachine.TestCase
