import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import runs

from .support import T0, S, add_run, new_run, stored


def test_a_run_comes_back_as_it_was_created(connection: Connection) -> None:
    new = new_run(config='{"model_id":"m"}', model_id="m", worker_host="w", prompt="p" * 1_000_000)
    runs.create(connection, new, {"b": "2", "a": "1"}, T0)
    run = stored(connection, new.id)
    assert (run.prompt, run.config, run.worker_host) == (new.prompt, new.config, "w")
    assert (run.state, run.created_at, run.updated_at, run.creator_name) == (RunState.QUEUED, T0, T0, "alice")
    assert runs.metadata_of(connection, [new.id]) == {new.id: {"a": "1", "b": "2"}}


def test_runs_are_numbered_in_the_order_of_creation(connection: Connection) -> None:
    ids = [add_run(connection) for _ in range(3)]
    assert [run.id for run in runs.get_all(connection, list(reversed(ids)))] == ids


def test_a_run_that_is_not_there(connection: Connection) -> None:
    assert runs.get(connection, "x") is None
    assert runs.lock_run(connection, "x") is None
    assert not runs.exists(connection, "x")


def test_a_parent_must_exist(connection: Connection) -> None:
    with pytest.raises(IntegrityError):
        add_run(connection, parent_run_id="nobody")


def test_a_move_that_the_table_does_not_have_is_refused(connection: Connection) -> None:
    run_id = add_run(connection)
    head = runs.lock_run(connection, run_id)
    assert head is not None
    runs.move(connection, head, RunState.SUCCEEDED, T0)
    ended = runs.lock_run(connection, run_id)
    assert ended is not None
    with pytest.raises(ValueError, match="cannot move from SUCCEEDED to QUEUED"):
        runs.move(connection, ended, RunState.QUEUED, T0)


def test_times_of_a_life(connection: Connection) -> None:
    run_id = add_run(connection)
    for target, at in ((RunState.CLAIMED, 1), (RunState.INPROGRESS, 2), (RunState.SUCCEEDED, 3)):
        head = runs.lock_run(connection, run_id)
        assert head is not None
        runs.move(connection, head, target, T0 + at * S)
    run = stored(connection, run_id)
    assert (run.started_at, run.updated_at, run.ended_at) == (T0 + S, T0 + 3 * S, T0 + 3 * S)
