"""Runs and clocks for the tests of the store."""

import uuid
from typing import Any

from sqlalchemy import Connection

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import keys, lease_queries, runs
from oz_agent_worker.controlplane.store.queue import Dispatch, assign
from oz_agent_worker.controlplane.store.runs import NewRun, Run
from oz_agent_worker.controlplane.times import micros

KEY_ID = "33333333-3333-4333-8333-333333333333"
T0 = micros(1_000_000)
S = micros(1)
GRACE = 600 * S

#: Peers of one worker ID: one that says nothing of itself, two on hosts of their own, two Pods.
PUBLIC = Peer("w")
HOST = Peer("w", "direct", "host/a")
OTHER_HOST = Peer("w", "direct", "host/b")
POD = Peer("w", "kubernetes", "pod/n/a/1")
OTHER_POD = Peer("w", "kubernetes", "pod/n/b/2")


def add_key(connection: Connection) -> None:
    keys.add_key(connection, KEY_ID, "alice", "0" * 64, T0)


def new_run(**changes: Any) -> NewRun:
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "execution_id": str(uuid.uuid4()),
        "title": "title",
        "prompt": "prompt",
        "source": "API",
        "creator_id": KEY_ID,
    }
    return NewRun(**values | changes)


def add_run(
    connection: Connection, now: int = T0, metadata: dict[str, str] | None = None, **changes: Any
) -> str:
    """Queue a run; returns its ID."""
    new = new_run(**changes)
    runs.create(connection, new, metadata or {}, now)
    return new.id


def give(connection: Connection, run_id: str, peer: Peer = PUBLIC, now: int = T0) -> str:
    """Assign a run with 30 s to claim it; returns the hash of its token."""
    token_hash = uuid.uuid4().hex
    assert len(assign(connection, [Dispatch(run_id, peer, token_hash)], now, now + 30 * S)) == 1
    return token_hash


def stored(connection: Connection, run_id: str) -> Run:
    run = runs.get(connection, run_id)
    assert run is not None
    return run


def state_before(run: RunRecord | None) -> RunState:
    assert run is not None
    return run.state


def lose(connection: Connection, run_id: str, now: int = T0) -> None:
    """Let the lease of a run begin."""
    lease_queries.begin(connection, [run_id], now, now + GRACE)


def record_of(connection: Connection, run_id: str) -> RunRecord:
    head = runs.lock_run(connection, run_id)
    assert head is not None
    return head
