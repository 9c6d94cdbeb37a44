"""The control plane against a model of its workers: whatever happens, in whatever order.

What may happen: runs are submitted and cancelled; workers read, start, claim, reject, print,
report, lose their connection, die and come back; time passes; the control plane dies.
Then of each run: its states moved by the table, it ended once, and without its submitter's
leave it was started on one ground alone.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select

from oz_agent_worker.controlplane.peer import Peer
from oz_agent_worker.controlplane.states import IN_FLIGHT, TERMINAL, RunState, can_move
from oz_agent_worker.controlplane.store import reports
from oz_agent_worker.controlplane.store.schema import runs, workload_tokens
from oz_agent_worker.core.wire import WorkerFrame
from tests.unit.controlplane.fleet import Execution, Fleet, Worker
from tests.unit.controlplane.plane import Plane
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

FLEET = (HOST, OTHER_HOST, POD, OTHER_POD, PUBLIC, Peer("x", "direct", "host/x"))
WORKERS = st.integers(0, len(FLEET) - 1)
CHOICE = st.integers(0, 7)


def snapshot(connection: SqlConnection) -> list[Any]:
    tokens = select(workload_tokens.c.run_id).distinct().subquery()
    joined = runs.outerjoin(tokens, tokens.c.run_id == runs.c.id)
    return list(connection.execute(select(runs, tokens.c.run_id.label("token")).select_from(joined)))


class ControlPlaneModel(RuleBasedStateMachine):
    """Each rule does one thing at one worker, or at the control plane."""

    submitted = Bundle("submitted")

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._plane = self._do(Plane.open(Path(self._folder.name) / "db"))
        self._fleet = Fleet()
        self._workers = [Worker(self._fleet, peer) for peer in FLEET]
        self._states: dict[str, RunState] = {}
        self._retried: set[str] = set()

    def teardown(self) -> None:
        self._do(self._plane.close())
        self._runner.close()
        self._folder.cleanup()

    def _do(self, steps: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(steps)

    def _say(self, worker: Worker, *frames: WorkerFrame) -> None:
        assert worker.connection is not None
        self._do(self._plane.say(worker.connection, *frames))
        self._do(self._plane.stored())

    # ------------------------------------------------------------------ the control plane

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        for index in range(count):
            self.connect(index)

    @rule(target=submitted, safe=st.booleans(), host=st.sampled_from([None, "w", "x"]))
    def submit(self, safe: bool, host: str | None) -> str:
        run_id: str = self._do(self._plane.queue(host, safe_to_retry=safe))
        if safe:
            self._retried.add(run_id)
        return run_id

    @rule(run_id=submitted)
    def cancel(self, run_id: str) -> None:
        plane = self._plane
        result = self._do(_write(plane, reports.cancel, run_id, plane.now))
        if result.outcome is reports.Cancel.REQUESTED:
            plane.hub.cancel(run_id, result.worker_id, result.execution_id)

    @rule(seconds=st.sampled_from([0, 1, 31, 599, 601]))
    def time_passes(self, seconds: int) -> None:
        self._do(self._plane.step(seconds))

    @rule()
    def control_plane_dies(self) -> None:
        self._plane = self._plane.restarted()
        for worker in self._workers:
            worker.connection = None
        self._do(self._plane.attendance.start())

    # ----------------------------------------------------------------------------- workers

    @rule(index=WORKERS)
    def connect(self, index: int) -> None:
        worker = self._workers[index]
        if worker.connection is None:
            worker.connection = self._plane.hub.connect(worker.peer.worker_id, "key", self._plane.now)
            if worker.peer.greeted:
                self._say(worker, worker.hello())

    @rule(index=WORKERS)
    def disconnect(self, index: int) -> None:
        worker = self._workers[index]
        if worker.connection is not None:
            worker.read()
            self._do(self._plane.leave(worker.connection))
            worker.connection = None

    @rule(index=WORKERS, unread=st.booleans())
    def dies(self, index: int, unread: bool) -> None:
        worker = self._workers[index]
        if worker.connection is not None:
            if unread:
                # Written to the socket, and never read.
                while not worker.connection.outgoing.empty():
                    worker.connection.outgoing.get_nowait()
            self._do(self._plane.leave(worker.connection))
            worker.connection = None
        worker.die()
        worker.find()

    @rule(index=WORKERS)
    def reads(self, index: int) -> None:
        if self._workers[index].connection is not None:
            self._workers[index].read()

    @rule(index=WORKERS, choice=CHOICE, said=st.booleans())
    def starts(self, index: int, choice: int, said: bool) -> None:
        """A worker starts what it was sent; a public one claims first, and may find itself refused."""
        worker = self._workers[index]
        execution = _pick(worker.inbox, choice)
        if execution is None:
            return
        if worker.peer.greeted:
            worker.start(execution)
            if said and worker.connection is not None:
                self._say(worker, worker.claim(execution))
        elif worker.connection is not None:
            self._say(worker, worker.claim(execution))
            worker.read()
            if execution in worker.inbox:
                worker.start(execution)

    @rule(index=WORKERS, choice=CHOICE)
    def rejects(self, index: int, choice: int) -> None:
        worker = self._workers[index]
        execution = _pick(worker.inbox, choice)
        if execution is not None and worker.connection is not None:
            worker.inbox.discard(execution)
            self._say(worker, worker.reject(execution))

    @rule(index=WORKERS, choice=CHOICE)
    def prints(self, index: int, choice: int) -> None:
        worker = self._workers[index]
        execution = _pick(worker.running, choice)
        if execution is not None and worker.connection is not None and worker.peer.greeted:
            self._say(worker, worker.output(execution))

    @rule(index=WORKERS, choice=CHOICE, delivered=st.booleans())
    def reports(self, index: int, choice: int, delivered: bool) -> None:
        worker = self._workers[index]
        execution = _pick(worker.running, choice)
        if execution is not None and worker.connection is not None:
            self._say(worker, worker.claim(execution), worker.report(execution))
            if delivered:
                worker.read()
                worker.forget(execution)

    @precondition(lambda self: self._fleet.grounds)
    @rule(index=WORKERS, choice=CHOICE, named=st.booleans())
    def says_something_late(self, index: int, choice: int, named: bool) -> None:
        """A frame of what this worker once had, or never."""
        worker = self._workers[index]
        execution = _pick(set(self._fleet.grounds), choice)
        speaks_truly = execution is not None and worker.ground in self._fleet.grounds[execution]
        if execution is not None and worker.connection is not None and worker.peer.greeted and speaks_truly:
            self._say(worker, worker.report(execution) if named else worker.claim(execution))

    # -------------------------------------------------------------------------- invariants

    @invariant()
    def states_move_by_the_table(self) -> None:
        for row in self._rows():
            before, state = self._states.get(row.id, RunState.QUEUED), RunState(row.state)
            reachable = before is state or can_move(before, state) or _in_two_moves(before, state)
            assert reachable, f"{before} to {state}"
            assert before not in TERMINAL or state is before
            self._states[row.id] = state

    @invariant()
    def an_ended_run_is_over(self) -> None:
        for row in self._rows():
            ended = RunState(row.state) in TERMINAL
            assert (row.ended_at is not None) == ended
            if ended:
                assert row.token is None
                assert row.claim_deadline is row.lease_until is row.away_since is None
                assert self._plane.hub.holder(row.id) is None

    @invariant()
    def a_run_in_flight_is_held_or_waited_for(self) -> None:
        for row in self._rows():
            if RunState(row.state) in IN_FLIGHT:
                assert row.worker_id is not None
                held = self._plane.hub.holder(row.id) is not None
                assert held or row.lease_until is not None
            else:
                assert row.lease_until is None

    @invariant()
    def nothing_is_started_on_two_grounds(self) -> None:
        by_run: dict[str, set[str]] = {}
        for (run_id, _), grounds in self._fleet.grounds.items():
            # A public worker says by its silence that it started nothing, and may be wrong.
            certain = {ground for ground in grounds if not ground.startswith("process ")}
            assert len(certain) <= 1, grounds
            by_run.setdefault(run_id, set()).update(certain)
        for run_id, grounds in by_run.items():
            assert len(grounds) <= 1 or run_id in self._retried, grounds

    def _rows(self) -> list[Any]:
        rows: list[Any] = self._do(self._plane.database.read(snapshot))
        return rows


def _pick(executions: set[Execution], choice: int) -> Execution | None:
    ordered = sorted(executions)
    return ordered[choice % len(ordered)] if ordered else None


def _in_two_moves(before: RunState, after: RunState) -> bool:
    """One rule may make more than one move, as taking a run back and handing it out again."""
    return any(can_move(before, between) and can_move(between, after) for between in RunState)


async def _write(plane: Plane, operation: Any, *arguments: Any) -> Any:
    return await plane.database.write(operation, *arguments)


TestControlPlane = ControlPlaneModel.TestCase
TestControlPlane.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
