"""Delivery as a whole against a model: queue, connection, worker process and the Jobs in the cluster.

Everything that can happen is a rule, and comes in any order: runs are submitted, handed out,
started, printed by, ended and cancelled; messages are written, read and lost one at a time;
a side leaves and the other learns of it late or never; the worker dies and the next one
adopts the existing Jobs; a report gets lost inside the control plane. ``test_session_delivery``
looks at a connection's frames and output more closely; this looks at a task's whole life:

- no report counts as delivered that the control plane does not have, and no record goes before;
- a claim is read before its execution's output, and all output before its end;
- no execution is started twice, and each has one end at most;
- the worker holds no more than two entries for each execution in its hands;
- after a connection that holds each run is over, each execution that was started has exactly
  one end, and nothing is left behind on either side.

A message is the smallest thing that gets lost: WebSocket delivers whole ones (RFC 6455,
section 6.2). Messages of one connection keep their order, acks and assignments included.
"""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.frames import Capability
from oz_agent_worker.protocol.outcome import Outcome, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import ACK_TIMEOUT

from .model_plane import Luck, ModelPlane, Run, Wire
from .model_worker import Jobs, ModelWorker

T = TypeVar("T")

ACK, HELLO, LOGS = Capability.ACK, Capability.HELLO, Capability.LOGS
PEERS = [frozenset[Capability](), frozenset({ACK}), frozenset({HELLO}), frozenset({ACK, HELLO, LOGS})]
OUTCOMES = [succeeded(), failed(FailureReason.CONTAINER_EXIT, "broke", exit_code=3)]
MOST_RUNS = 5
PICKS = st.integers(0, MOST_RUNS)
COUNTS = st.sampled_from([100, 0, 0, 1, 2, 3])
LUCKS = st.sampled_from(["good", "good", "unacknowledged", "dropped"])


def _one(things: Sequence[T], pick: int) -> T:
    return things[pick % len(things)]


class DeliveryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.jobs = Jobs()
        self.plane = ModelPlane(frozenset())
        self.worker: ModelWorker | None = None

    @initialize(capabilities=st.sampled_from(PEERS), runs=st.integers(1, 3), ended=st.integers(0, 2))
    def begin(self, capabilities: frozenset[Capability], runs: int, ended: int) -> None:
        """The first runs were launched, some have ended, and nothing is reported yet."""
        self.plane = ModelPlane(capabilities)
        for _ in range(runs):
            self.plane.submit()
        self.come_back()
        self.some_messages(0.0, 100, 100, 100, "good")
        self._launch_all()
        for key in self.jobs.running[:ended]:
            self.jobs.jobs_by_key[key].end(succeeded())
            self.alive.observe(key)

    # ------------------------------------------------------------------------ the queue

    @precondition(lambda self: len(self.plane.runs) < MOST_RUNS)
    @rule()
    def submit(self) -> None:
        self.plane.submit()
        self.plane.dispatch()

    @property
    def _cancellable(self) -> list[Run]:
        running = (RunState.CLAIMED, RunState.INPROGRESS)
        return [r for r in self.plane.runs.values() if r.state in running and not r.cancel_requested]

    @precondition(lambda self: self._cancellable)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        self.plane.cancel(_one(self._cancellable, pick))

    @property
    def _leased(self) -> list[Run]:
        """Runs of a worker that is away. A peer that gets no execution IDs cannot reassign one."""
        if not self.plane.expects_hello or not self.plane.acknowledges or self.plane.wires:
            return []
        held = (RunState.PENDING, RunState.CLAIMED, RunState.INPROGRESS)
        return [run for run in self.plane.runs.values() if run.state in held]

    @precondition(lambda self: self._leased)
    @rule(pick=PICKS, safe_to_retry=st.booleans())
    def lease_expires(self, pick: int, safe_to_retry: bool) -> None:
        self.plane.expire_lease(_one(self._leased, pick), safe_to_retry=safe_to_retry)

    # --------------------------------------------------------------------- the messages

    @precondition(lambda self: self.wire)
    @rule(
        seconds=st.sampled_from([0.0, 0.0, 0.0, 5.0, 31.0]),
        written=COUNTS,
        plane_read=COUNTS,
        worker_read=COUNTS,
        luck=LUCKS,
    )
    def some_messages(
        self, seconds: float, written: int, plane_read: int, worker_read: int, luck: Luck
    ) -> None:
        """The worker writes so many, perhaps amid a turn; each side reads so many of what is on its way."""
        wire, worker = self.wire, self.alive
        assert wire is not None
        assert worker.session is not None
        self.now += seconds
        if worker.session.is_dead(self.now):
            worker.leave()
            return
        worker.write(written, self.now)
        for _ in range(min(plane_read, len(wire.up))):
            self.plane.read(wire, luck)
        self.plane.dispatch()
        for _ in range(min(worker_read, len(wire.down))):
            worker.read(self.now)

    @precondition(lambda self: self._half_open)
    @rule(pick=PICKS, count=COUNTS, luck=LUCKS)
    def late_messages(self, pick: int, count: int, luck: Luck) -> None:
        """The control plane reads from a connection that the worker has left."""
        wire = _one(self._half_open, pick)
        for _ in range(count):
            if wire.up:
                self.plane.read(wire, luck)

    @property
    def _half_open(self) -> list[Wire]:
        return [wire for wire in self._left if wire.up]

    @property
    def _left(self) -> list[Wire]:
        return [wire for wire in self.plane.wires if wire is not self.wire]

    # ------------------------------------------------------------------------- the work

    @precondition(lambda self: self.worker and self.worker.to_do)
    @rule(pick=PICKS, backend_fails=st.sampled_from([False, False, False, True]))
    def worker_works(self, pick: int, backend_fails: bool) -> None:
        """The worker does what is next for one execution: start it, look at it, or let go of it."""
        worker = self.alive
        key = _one(worker.to_do, pick)
        if key in worker.releasable:
            self._release(key)
        elif key in worker.observable:
            worker.observe(key)
        elif key in worker.launching and backend_fails and key not in self.jobs.jobs_by_key:
            worker.fail_to_launch(key)
        elif key in worker.launching:
            worker.launch(key)

    def _launch_all(self) -> None:
        for key in self.alive.launching:
            self.alive.launch(key)

    @precondition(lambda self: self.jobs.running and LOGS in self.plane.capabilities)
    @rule(pick=PICKS, text=st.sampled_from([b"one line\n", b"half a character: \xe2\x82"]))
    def task_prints(self, pick: int, text: bytes) -> None:
        self.jobs.jobs_by_key[_one(self.jobs.running, pick)].log += text

    @precondition(lambda self: self.jobs.running)
    @rule(pick=PICKS, outcome=st.sampled_from(OUTCOMES), seen=st.booleans())
    def task_ends(self, pick: int, outcome: Outcome, seen: bool) -> None:
        key = _one(self.jobs.running, pick)
        self.jobs.jobs_by_key[key].end(outcome)
        if seen and self.worker and key in self.worker.observable:
            self.worker.observe(key)

    def _release(self, key: ExecutionKey) -> None:
        assert key in self.plane.reported
        self.alive.release(key)

    # ----------------------------------------------------------------- what goes wrong

    @property
    def alive(self) -> ModelWorker:
        assert self.worker is not None
        return self.worker

    @property
    def wire(self) -> Wire | None:
        return self.worker.wire if self.worker else None

    def _on_delivered(self, report: TerminalReport) -> None:
        assert report.key in self.plane.reported, "delivered, and the peer does not have it"

    @precondition(lambda self: self.wire)
    @rule(leaver=st.sampled_from(["worker", "dying worker", "plane"]), kept=COUNTS, back=st.booleans())
    def somebody_leaves(self, leaver: str, kept: int, back: bool) -> None:
        """What is on its way to whoever leaves is lost, and of the rest all but ``kept``.

        ``back``: the worker knows at once, and connects again.
        """
        wire = self.wire
        assert wire is not None
        if leaver == "plane" and wire.plane_open:
            self.plane.close(wire)
        while len(wire.up) > kept:
            wire.up.pop()
        if leaver != "plane" or back:
            self.alive.leave()
        if leaver == "dying worker":
            self.worker = None
        if back:
            self.come_back()

    @precondition(lambda self: self._left)
    @rule(pick=PICKS)
    def plane_processes_a_report(self, pick: int) -> None:
        self.plane.close(_one(self._left, pick))

    @precondition(lambda self: self.wire is None)
    @rule()
    def come_back(self) -> None:
        """The worker connects; the successor of a dead one adopts the existing Jobs."""
        if self.worker is None:
            self.worker = ModelWorker(self.jobs, self._on_delivered)
        self.worker.connect(self.plane, self.now)
        self.plane.dispatch()

    # --------------------------------------------------------------------- what must hold

    @invariant()
    def what_is_reported_waits_until_it_is_delivered(self) -> None:
        if self.worker is not None:
            steps = self.worker.steps.values()
            assert self.worker.outbox.unreported == sum(s.reported and not s.delivered for s in steps)
            assert len(self.worker.outbox) <= 2 * len(steps)
            assert len(self.worker.logs) <= len(steps)

    @invariant()
    def nothing_is_started_twice(self) -> None:
        assert not [key for key, count in self.jobs.started.items() if count > 1]

    @invariant()
    def no_record_goes_before_its_end_is_stored(self) -> None:
        gone = set(self.jobs.started) - set(self.jobs.jobs_by_key)
        assert gone <= set(self.plane.ends) & self.plane.reported

    @invariant()
    def the_log_is_what_the_task_printed(self) -> None:
        for key, log in self.plane.logs.items():
            job = self.jobs.jobs_by_key.get(key)
            printed = bytes(job.log) if job else self.jobs.output[key]
            assert printed.decode("utf-8", "replace").encode().startswith(bytes(log))

    @invariant()
    def a_session_that_waits_has_nothing_to_write(self) -> None:
        if self.worker is None or self.worker.session is None or self.worker.writing is not None:
            return
        if self.worker.session.next_timer() > self.now:
            assert next(self.worker.session.data_to_send(self.now), None) is None

    # ------------------------------------------------------------------------- the end

    def teardown(self) -> None:
        """From here on nothing breaks: everything arrives, and nothing is left behind.

        Without a wait, but for a report that the peer has lost: that one goes out again in time.
        """
        for wire in self._left:
            self.plane.close(wire)
        if self.wire is None or not self.wire.plane_open:
            if self.worker is not None:
                self.worker.leave()
            self.come_back()
        begun = self.now
        for _ in range(50 * MOST_RUNS):
            if not self._turn():
                break
        self._check_the_end()
        assert self.now - begun <= (ACK_TIMEOUT if self.plane.acknowledges else 0.0)

    def _turn(self) -> bool:
        """All that can be done without a wait, else a wait until the session's timer. False at the end."""
        worker, wire = self.alive, self.wire
        assert wire is not None
        assert worker.session is not None
        self.plane.dispatch()
        worker.write(1000, self.now)
        while wire.up:
            self.plane.read(wire)
        while wire.down:
            worker.read(self.now)
        self._launch_all()
        for job in self.jobs.jobs_by_key.values():
            job.end(succeeded())
        for key in worker.observable:
            worker.observe(key)
        for key in worker.releasable:
            self._release(key)
        states = {run.state for run in self.plane.runs.values()}
        if worker.to_do or wire.down or RunState.QUEUED in states or worker.session.next_timer() <= self.now:
            return True
        if not worker.steps and states <= TERMINAL:
            return False
        self.now = worker.session.next_timer()
        return True

    def _check_the_end(self) -> None:
        assert all(run.state in TERMINAL for run in self.plane.runs.values())
        assert set(self.jobs.started) <= set(self.plane.ends)
        assert not self.jobs.jobs_by_key
        assert not self.alive.steps
        assert (len(self.alive.outbox), len(self.alive.logs), self.alive.logs.held) == (0, 0, 0)


DeliveryMachine.TestCase.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestDelivery = DeliveryMachine.TestCase
