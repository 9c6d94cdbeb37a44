"""The moves between states, as the database enforces them."""

import importlib
from itertools import permutations

import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import DBAPIError

from oz_agent_worker.controlplane.rules.run_states import TRANSITIONS, RunState
from oz_agent_worker.controlplane.store.tables import runs

from .support import add_run, stored

rev_0002 = importlib.import_module("oz_agent_worker.controlplane.store.migrations.versions.rev_0002_leases")


def place(connection: Connection, state: RunState) -> str:
    """A run in ``state``, by a move that is allowed."""
    run_id = add_run(connection)
    if state is RunState.BLOCKED:
        pytest.skip("no run can be brought there")
    if state is not RunState.QUEUED:
        connection.execute(update(runs).where(runs.c.id == run_id).values(state=state.value))
    return run_id


def test_the_migrations_copy_of_the_table_is_the_tables() -> None:
    copied = {RunState(s): {RunState(t) for t in targets} for s, targets in rev_0002.TRANSITIONS.items()}
    assert copied == {state: set(targets) for state, targets in TRANSITIONS.items() if targets}


@pytest.mark.parametrize("source", [s for s in RunState if s is not RunState.BLOCKED])
def test_the_database_makes_the_moves_of_the_table_and_no_other(
    connection: Connection, source: RunState
) -> None:
    for target in RunState:
        run_id = place(connection, source)
        by_hand = text("UPDATE runs SET state = :state WHERE id = :id").bindparams(state=target, id=run_id)
        if target is source or target in TRANSITIONS[source]:
            connection.execute(by_hand)
            assert stored(connection, run_id).state is target
        else:
            with pytest.raises(DBAPIError, match="cannot make this move"), connection.begin_nested():
                connection.execute(by_hand)
            assert stored(connection, run_id).state is source


def test_there_are_moves_to_refuse() -> None:
    refused = [(s, t) for s, t in permutations(RunState, 2) if t not in TRANSITIONS[s]]
    assert (RunState.SUCCEEDED, RunState.QUEUED) in refused
    assert len(refused) == 46


def test_other_columns_of_an_ended_run_can_be_written(connection: Connection) -> None:
    run_id = place(connection, RunState.SUCCEEDED)
    connection.execute(update(runs).where(runs.c.id == run_id).values(message="annotated"))
    assert stored(connection, run_id).message == "annotated"
