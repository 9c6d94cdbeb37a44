"""The control plane against a model of its workers: whatever happens, in whatever order.

What may happen: runs are submitted and cancelled; workers read, start, claim, reject, print,
report, lose their connection, die and come back; time passes; the control plane dies, or
stands still.
Then of each run: its states moved by the table, it ended once, without its submitter's
leave it was started in one start scope alone, with it no more often than is allowed, and it is
waited for no longer than is promised.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, select

from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, TERMINAL, RunState, can_move
from oz_agent_worker.controlplane.store import reports
from oz_agent_worker.controlplane.store.tables import runs, workload_tokens
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.protocol.frames import TaskClaimed, WorkerFrame

from .fleet import Execution, Fleet, Worker
from .plane import Plane, heard
from .store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

MOST_RUNS = 6
MOST_STARTS = 2
#: Graces in which a public worker that connects again may report.
PUBLIC_GRACES = 6
CLAIM_TIMEOUT = micros(30)
GRACE = micros(600)
FLEET = (HOST, OTHER_HOST, POD, OTHER_POD, PUBLIC, PUBLIC, Peer("x", "direct", "host/x"))
WORKERS = st.integers(0, len(FLEET) - 1)


def snapshot(connection: Connection) -> list[Any]:
    tokens = select(workload_tokens.c.run_id).distinct().subquery()
    joined = runs.outerjoin(tokens, tokens.c.run_id == runs.c.id)
    return list(connection.execute(select(runs, tokens.c.run_id.label("token")).select_from(joined)))


class ControlPlaneModel(RuleBasedStateMachine):
    """Each rule does one thing at one worker, or at the control plane."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._plane = self._do(Plane.open(Path(self._folder.name) / "db", max_starts=MOST_STARTS))
        self._fleet = Fleet()
        self._workers = [Worker(self._fleet, peer) for peer in FLEET]
        self._states: dict[str, RunState] = {}
        self._retried: set[str] = set()
        self._leases: dict[Execution, int] = {}
        self._claimed_on: dict[str, set[int]] = {}

    def teardown(self) -> None:
        self._do(self._plane.close())
        self._runner.close()
        self._folder.cleanup()

    def _do(self, steps: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(steps)

    def _say(self, worker: Worker, *frames: WorkerFrame) -> None:
        assert worker.connection is not None
        for frame in frames:
            if isinstance(frame, TaskClaimed):
                self._claimed_on.setdefault(frame.task_id, set()).add(worker.connection.number)
        self._do(self._plane.say(worker.connection, *frames))
        self._do(self._plane.stored())
        self._do(self._plane.step())

    # ------------------------------------------------------------------ the control plane

    @initialize(absent=st.sets(WORKERS, max_size=3), safe=st.lists(st.booleans(), max_size=3))
    def begin(self, absent: set[int], safe: list[bool]) -> None:
        for number, worker in enumerate(self._workers):
            if number not in absent:
                self._connect(worker)
        for number, is_safe in enumerate(safe):
            self._submit(f"first-{number}", None, is_safe)

    @precondition(lambda self: len(self._states) < MOST_RUNS)
    @rule(safe=st.booleans(), host=st.sampled_from([None, "w", "x"]))
    def submit(self, safe: bool, host: str | None) -> None:
        self._submit(f"run-{len(self._states)}", host, safe)

    def _submit(self, run_id: str, host: str | None, safe: bool) -> None:
        self._do(self._plane.queue(host, id=run_id, safe_to_retry=safe))
        if safe:
            self._retried.add(run_id)
        self._do(self._plane.step())

    @precondition(lambda self: any(w.running for w in self._workers) and self._living())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        plane, run_id = self._plane, data.draw(st.sampled_from(self._living()))
        run = self._do(plane.cancel(run_id))
        if reports.is_cancellable(run):
            plane.connections.cancel(run.ref, run.worker_id)

    @precondition(lambda self: self._living())
    @rule(seconds=st.sampled_from([1, 31, 601]))
    def time_passes(self, seconds: int) -> None:
        self._do(self._plane.step(seconds))

    @precondition(lambda self: self._living() and self._connected())
    @rule(away=st.sampled_from([0, 3600]), clean=st.booleans())
    def control_plane_dies(self, away: int, clean: bool) -> None:
        """Away for so many seconds; ``clean``: it was stopped, and could store what it knew."""
        if clean:
            self._do(self._plane.lease_keeper.stop())
        before, left_at = {row.id: row for row in self._rows()}, self._plane.now
        self._plane = self._do(self._plane.restarted(after=away))
        for worker in self._workers:
            worker.connection = None
        self._claimed_on.clear()
        for row in self._rows():
            if (until := before[row.id].lease_until) is not None:
                left = row.lease_until - self._plane.now
                assert left <= GRACE
                assert left >= min(until - left_at, GRACE)
                if clean:
                    assert left <= max(until - left_at, micros(75))
        self._leases.clear()

    @precondition(lambda self: self._living())
    @rule()
    def control_plane_stalls(self) -> None:
        """For an hour, after which nothing is over that was waited for."""
        self._do(self._plane.step())
        awaited = {row.id for row in self._rows() if row.lease_until is not None}
        self._plane.pass_time(3600)
        self._do(self._plane.dispatcher.step())
        for row in self._rows():
            if row.id in awaited:
                assert RunState(row.state) in IN_FLIGHT
                assert row.lease_until is None or row.lease_until >= self._plane.now + micros(75)
        self._leases.clear()

    # ----------------------------------------------------------------------------- workers

    @precondition(lambda self: len(self._connected()) < len(FLEET))
    @rule(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        if worker := _one(data, [w for w in self._workers if w.connection is None]):
            self._connect(worker)

    def _connect(self, worker: Worker) -> None:
        worker.connection = self._plane.connections.connect(worker.peer.worker_id, "key", self._plane.now)
        if worker.peer.sent_hello:
            self._say(worker, worker.hello())

    @precondition(lambda self: self._connected())
    @rule(data=st.data(), read=st.booleans())
    def disconnect(self, data: st.DataObject, read: bool) -> None:
        if worker := _one(data, self._connected()):
            if read:
                worker.read()
            self._leave(worker)

    @precondition(lambda self: any(w.has_work or w.running for w in self._workers))
    @rule(data=st.data(), written=st.booleans(), departed=st.booleans())
    def dies(self, data: st.DataObject, written: bool, departed: bool) -> None:
        """``written``: what was sent had left for it, and is never read; ``departed``: it says goodbye."""
        if worker := _one(data, [w for w in self._workers if w.has_work or w.running]):
            if worker.connection is not None:
                if written:
                    heard(worker.connection)
                self._leave(worker, departed=departed)
            worker.die()
            worker.find()

    def _leave(self, worker: Worker, *, departed: bool = False) -> None:
        assert worker.connection is not None
        self._do(self._plane.leave(worker.connection, departed=departed))
        worker.connection = None
        self.all_is_well()  # what was never sent is in the queue for a moment
        self._do(self._plane.step())

    @precondition(lambda self: any(w.has_work for w in self._workers))
    @rule(data=st.data(), reported=st.booleans())
    def starts(self, data: st.DataObject, reported: bool) -> None:
        """A worker starts what it was sent; a public one claims first, and may find itself refused."""
        self._read()
        worker = _one(data, [w for w in self._workers if w.inbox])
        if worker is None:
            return
        execution = data.draw(st.sampled_from(self._fleet.in_order(worker.inbox)))
        if worker.peer.sent_hello:
            worker.start(execution)
            if reported and worker.connection is not None:
                self._say(worker, worker.claim(execution))
        elif worker.connection is not None:
            self._say(worker, worker.claim(execution))
            worker.read()
            if execution in worker.inbox:
                worker.start(execution)

    @precondition(lambda self: any(w.has_work for w in self._connected()))
    @rule(data=st.data())
    def rejects(self, data: st.DataObject) -> None:
        self._read()
        if worker := _one(data, [w for w in self._connected() if w.inbox]):
            execution = data.draw(st.sampled_from(self._fleet.in_order(worker.inbox)))
            worker.inbox.discard(execution)
            self._say(worker, worker.reject(execution))

    @precondition(lambda self: any(w.running for w in self._connected()))
    @rule(data=st.data())
    def prints(self, data: st.DataObject) -> None:
        if worker := _one(data, [w for w in self._connected() if w.running and w.peer.sent_hello]):
            self._say(worker, worker.output(data.draw(st.sampled_from(self._fleet.in_order(worker.running)))))

    @precondition(lambda self: any(w.running for w in self._connected()))
    @rule(data=st.data(), delivered=st.booleans())
    def reports(self, data: st.DataObject, delivered: bool) -> None:
        self._read()
        if worker := _one(data, [w for w in self._connected() if w.running]):
            execution = data.draw(st.sampled_from(self._fleet.in_order(worker.running)))
            # A public worker claimed it before it started it, on this connection or on an earlier one.
            claim = [worker.claim(execution)] if worker.peer.sent_hello else []
            self._say(worker, *claim, worker.report(execution))
            if delivered:
                worker.forget(execution)

    @precondition(lambda self: self._fleet.start_scopes and self._connected())
    @rule(data=st.data(), ended=st.booleans())
    def says_something_late(self, data: st.DataObject, ended: bool) -> None:
        """A frame of what was once started where this worker is: other false frames are left out."""
        worker = _one(data, [w for w in self._connected() if w.peer.sent_hello])
        if worker is None:
            return
        if known := [
            e for e, start_scopes in self._fleet.start_scopes.items() if worker.start_scope in start_scopes
        ]:
            execution = data.draw(st.sampled_from(known))
            self._say(worker, worker.report(execution) if ended else worker.claim(execution))

    @precondition(lambda self: any(w.running for w in self._workers) and self._connected())
    @rule(data=st.data())
    def another_lies(self, data: st.DataObject) -> None:
        """A worker that never had it reports an execution that is somebody else's."""
        held = [(e, w) for w in self._workers for e in self._fleet.in_order(w.running) if w.peer.sent_hello]
        if not held or not self._connected():
            return
        execution, owner = data.draw(st.sampled_from(held))
        liar = _one(data, [w for w in self._connected() if not w.peer.same_instance(owner.peer)])
        if liar is not None:
            before = self._row(execution[0])
            self._say(liar, liar.report(execution))
            mine = owner.peer.may_report_for(
                Peer(before.worker_id or "", before.worker_backend, before.worker_instance)
            )
            if RunState(before.state) in IN_FLIGHT and before.execution_id == execution[1] and mine:
                assert self._row(execution[0]).state == before.state

    def _living(self) -> list[str]:
        return [run_id for run_id, state in self._states.items() if state not in TERMINAL]

    def _connected(self) -> list[Worker]:
        return [w for w in self._workers if w.connection is not None]

    def _read(self) -> None:
        for worker in self._connected():
            worker.read()

    # -------------------------------------------------------------------------- invariants

    @invariant()
    def all_is_well(self) -> None:
        rows = self._rows()
        self._states_move_by_the_table(rows)
        self._an_ended_run_is_over(rows)
        self._a_run_in_flight_is_held_or_waited_for(rows)
        self._what_is_not_answered_is_waited_for_so_long(rows)
        self._what_was_claimed_is_waited_for_so_long(rows)
        self._a_public_workers_run_is_held_by_who_claimed_it(rows)
        self._nothing_is_started_in_two_scopes()
        assert all(row.retries < MOST_STARTS for row in rows)

    def _states_move_by_the_table(self, rows: list[Any]) -> None:
        for row in rows:
            before, state = self._states.get(row.id, RunState.QUEUED), RunState(row.state)
            assert before is state or _is_a_way(before, state), f"{before} to {state}"
            self._states[row.id] = state

    def _an_ended_run_is_over(self, rows: list[Any]) -> None:
        for row in rows:
            ended = RunState(row.state) in TERMINAL
            assert (row.ended_at is not None) == ended
            if ended:
                assert row.token is None
                assert row.claim_deadline is row.lease_until is row.away_since is None
                assert self._plane.connections.holder(row.id) is None

    def _a_run_in_flight_is_held_or_waited_for(self, rows: list[Any]) -> None:
        for row in rows:
            holder = self._plane.connections.holder(row.id)
            if RunState(row.state) in IN_FLIGHT:
                assert row.worker_id is not None
                assert holder is not None or row.lease_until is not None
            else:
                assert row.lease_until is None
                assert holder is None

    def _what_is_not_answered_is_waited_for_so_long(self, rows: list[Any]) -> None:
        """A lease that runs is not taken back without an answer, and is lengthened once at most."""
        before, self._leases = self._leases, {}
        for row in rows:
            if RunState(row.state) is not RunState.PENDING:
                continue
            if row.lease_until is None:
                assert (row.id, row.execution_id) not in before, "the wait for an answer began anew"
                assert row.claim_deadline <= self._plane.now + CLAIM_TIMEOUT
                continue
            self._leases[row.id, row.execution_id] = row.lease_until
            since = before.get((row.id, row.execution_id))
            assert since is None or since <= row.lease_until <= max(since, row.away_since + 2 * GRACE)

    def _what_was_claimed_is_waited_for_so_long(self, rows: list[Any]) -> None:
        """A lease is as long as is promised, and a cancellation at a public worker has one."""
        for row in rows:
            if RunState(row.state) not in (RunState.CLAIMED, RunState.INPROGRESS):
                continue
            public = row.worker_backend is None
            graces = PUBLIC_GRACES if public and not row.cancel_requested else 1
            if row.lease_until is None:
                assert not (public and row.cancel_requested), "its worker need not answer"
            else:
                longest = max(row.away_since + graces * GRACE, self._plane.now + micros(75))
                assert self._plane.now <= row.lease_until <= longest

    def _a_public_workers_run_is_held_by_who_claimed_it(self, rows: list[Any]) -> None:
        """P16: a later connection with its ID is no sign of life."""
        for row in rows:
            holder = self._plane.connections.holder(row.id)
            if holder is None or row.worker_backend is not None or RunState(row.state) is RunState.PENDING:
                continue
            assert holder.number in self._claimed_on.get(row.id, ())

    def _nothing_is_started_in_two_scopes(self) -> None:
        by_run: dict[str, set[str]] = {}
        for (run_id, _), start_scopes in self._fleet.start_scopes.items():
            # A public worker says by its silence that it started nothing, and may be wrong.
            certain = {start_scope for start_scope in start_scopes if not start_scope.startswith("process ")}
            assert len(certain) <= 1, start_scopes
            by_run.setdefault(run_id, set()).update(certain)
        for run_id, start_scopes in by_run.items():
            assert len(start_scopes) <= 1 or run_id in self._retried, start_scopes

    def _rows(self) -> list[Any]:
        rows: list[Any] = self._do(self._plane.database.read(snapshot))
        return rows

    def _row(self, run_id: str) -> Any:
        return next(row for row in self._rows() if row.id == run_id)


def _one(data: st.DataObject, workers: list[Worker]) -> Worker | None:
    return data.draw(st.sampled_from(workers)) if workers else None


def _is_a_way(before: RunState, after: RunState) -> bool:
    """One rule may make two moves, as taking a run back and handing it out again."""
    return can_move(before, after) or any(can_move(before, s) and can_move(s, after) for s in RunState)


async def _write(plane: Plane, operation: Any, *arguments: Any) -> Any:
    return await plane.database.write(operation, *arguments)


TestControlPlane = ControlPlaneModel.TestCase
TestControlPlane.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
