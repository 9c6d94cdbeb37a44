"""The queue's pure rules together, in any order: the plan, the table of states, the capacity of connections.

Runs are submitted, handed out, claimed, rejected, reported and taken back while workers come
and go. What must hold whatever happens:

- a run is assigned to one connection at most, and only while it waits for a worker or has one;
- a run that has ended stays as it is, whatever is still reported about it;
- a connection is given no more than its limit, and a run that names a worker goes there alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState, can_move
from oz_agent_worker.controlplane.rules.scheduling import ConnectionSnapshot, place_runs

T = TypeVar("T")

HOSTS = ["a", "b"]
PICKS = st.integers(0, 9)
REPORTED_STATES = st.sampled_from([state for state in RunState if state is not RunState.BLOCKED])


@dataclass
class Run:
    run_id: str
    host: str | None
    state: RunState = RunState.QUEUED
    connection: int | None = None


@dataclass
class Worker:
    worker_id: str
    most: int | None
    last_served: int = 0


def _one(things: Sequence[T], pick: int) -> T:
    return things[pick % len(things)]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, Run] = {}
        self.workers: dict[int, Worker] = {}
        self.assigned: dict[int, list[str]] = {}
        self.ends: dict[str, RunState] = {}
        self.connections = 0
        self.served = 0

    @rule(host=st.sampled_from([None, None, *HOSTS]), count=st.integers(1, 4))
    def submit(self, host: str | None, count: int) -> None:
        for _ in range(count):
            run_id = f"run-{len(self.runs)}"
            self.runs[run_id] = Run(run_id, host)

    @rule(host=st.sampled_from(HOSTS), most=st.sampled_from([None, 0, 1, 3]))
    def connect(self, host: str, most: int | None) -> None:
        self.connections += 1
        self.workers[self.connections] = Worker(host, most)
        self.assigned[self.connections] = []

    @precondition(lambda self: self.workers)
    @rule(pick=PICKS)
    def disconnect(self, pick: int) -> None:
        """The runs stay where they are until somebody says more of them."""
        number = _one(list(self.workers), pick)
        del self.workers[number]
        for run_id in self.assigned.pop(number):
            self.runs[run_id].connection = None

    def _free(self, number: int) -> int | None:
        most = self.workers[number].most
        return None if most is None else most - len(self.assigned[number])

    @rule()
    def dispatch(self) -> None:
        queued = [
            RunRecord(id=r.run_id, execution_id="e", state=r.state, worker_host=r.host)
            for r in self.runs.values()
            if r.state is RunState.QUEUED
        ]
        connections = [
            ConnectionSnapshot(number, Peer(worker.worker_id), self._free(number), worker.last_served)
            for number, worker in self.workers.items()
        ]
        for assignment in place_runs(queued, connections):
            run, worker = self.runs[assignment.run_id], self.workers[assignment.connection_id]
            assert run.connection is None, "it has a connection already"
            assert run.host in (None, worker.worker_id)
            self._move(run, RunState.PENDING)
            run.connection = assignment.connection_id
            self.assigned[assignment.connection_id].append(run.run_id)
            self.served += 1
            worker.last_served = self.served

    @precondition(lambda self: self.runs)
    @rule(pick=PICKS, state=REPORTED_STATES.filter(lambda state: state is not RunState.PENDING))
    def report_a_state(self, pick: int, state: RunState) -> None:
        """A claim, output, a rejection, a report or a user's wish: the table says whether it counts."""
        run = _one(list(self.runs.values()), pick)
        if can_move(run.state, state):
            self._move(run, state)

    def _move(self, run: Run, state: RunState) -> None:
        assert can_move(run.state, state)
        run.state = state
        if state in TERMINAL:
            assert run.run_id not in self.ends, "a second end"
            self.ends[run.run_id] = state
        if (state in TERMINAL or state is RunState.QUEUED) and run.connection is not None:
            self.assigned[run.connection].remove(run.run_id)
            run.connection = None

    @invariant()
    def a_run_is_at_one_connection_at_most(self) -> None:
        held = [run_id for runs in self.assigned.values() for run_id in runs]
        assert len(held) == len(set(held))
        for run_id in held:
            assert self.runs[run_id].state in (RunState.PENDING, RunState.CLAIMED, RunState.INPROGRESS)

    @invariant()
    def no_connection_exceeds_its_limit(self) -> None:
        for number, worker in self.workers.items():
            assert worker.most is None or len(self.assigned[number]) <= worker.most

    @invariant()
    def an_end_is_final(self) -> None:
        ended = {run.run_id: run.state for run in self.runs.values() if run.state in TERMINAL}
        assert ended == self.ends


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueue = QueueMachine.TestCase
