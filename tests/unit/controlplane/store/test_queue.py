from sqlalchemy import Connection

from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import keys, queue, reports
from oz_agent_worker.controlplane.store.engine import WRITE, open_engine
from oz_agent_worker.controlplane.store.queue import Dispatch, NextDeadlines

from .support import GRACE, T0, S, add_key, add_run, give, record_of, stored


def waiting_ids(connection: Connection, now: int, *worker_ids: str) -> list[str]:
    return [run.id for run in queue.queued(connection, now, worker_ids, 100)]


def test_runs_wait_in_order_for_whoever_may_have_them(connection: Connection) -> None:
    anyone, for_w, for_x = (add_run(connection, worker_host=host) for host in (None, "w", "x"))
    last = add_run(connection)
    runs = queue.queued(connection, T0, ["w"], 100)
    assert [(run.id, run.worker_host) for run in runs] == [(anyone, None), (for_w, "w"), (last, None)]
    assert waiting_ids(connection, T0, "w", "x") == [anyone, for_w, for_x, last]
    assert len(queue.queued(connection, T0, ["w"], 2)) == 2


def test_an_assigned_run_is_pending_and_out_of_the_queue(connection: Connection) -> None:
    run_id = add_run(connection)
    (run,) = queue.assign(connection, [Dispatch(run_id, Peer("w"), "h")], T0 + 1, T0 + 30 * S)
    assert (run.id, run.state, run.worker_id) == (run_id, RunState.PENDING, "w")
    assert waiting_ids(connection, T0 + S, "w") == []
    assert queue.next_deadlines(connection, T0) == NextDeadlines(claim=T0 + 30 * S)


def test_a_run_is_assigned_once(connection: Connection) -> None:
    run_id = add_run(connection)
    give(connection, run_id)
    assert (
        queue.assign(connection, [Dispatch(run_id, Peer("x"), "h"), Dispatch("none", Peer("x"), "i")], T0, T0)
        == []
    )
    assert stored(connection, run_id).worker_id == "w"
    assert keys.find_workload(connection, "h") is None


def test_an_unclaimed_run_is_queued_again_with_the_same_execution(connection: Connection) -> None:
    run_id = add_run(connection)
    execution = stored(connection, run_id).execution_id
    token = give(connection, run_id)
    assert queue.unclaimed(connection, T0 + 30 * S - 1) == []
    assert queue.unclaimed(connection, T0 + 30 * S) == [record_of(connection, run_id)]
    assert len(queue.return_unclaimed(connection, [run_id], T0 + 30 * S)) == 1
    run = stored(connection, run_id)
    assert (run.state, run.execution_id, run.worker_id) == (RunState.QUEUED, execution, None)
    assert run.message == "Worker w did not claim the run in time."
    # The worker may yet turn out to have it, and then its agent needs its token.
    assert keys.find_workload(connection, token) == run_id


def test_a_run_that_comes_back_waits_longer_each_time(connection: Connection) -> None:
    run_id = add_run(connection)
    now, delays = T0, []
    for _ in range(8):
        give(connection, run_id, now=now)
        assert queue.reject(connection, ExecutionRef(run_id), Peer("w"), "full", now, now + GRACE)
        due = queue.next_deadlines(connection, now).delay
        assert due is not None
        delays.append((due - now) // S)
        assert waiting_ids(connection, due - 1, "w") == []
        assert waiting_ids(connection, due, "w") == [run_id]
        now = due
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_rejection_ends_the_token(connection: Connection) -> None:
    run_id = add_run(connection)
    token = give(connection, run_id)
    assert queue.reject(connection, ExecutionRef(run_id), Peer("w"), "full", T0, T0 + GRACE)
    assert keys.find_workload(connection, token) is None
    assert stored(connection, run_id).message == "Worker w rejected the run: full"


def test_a_rejection_by_another_worker_or_execution_is_ignored(connection: Connection) -> None:
    run_id = add_run(connection)
    give(connection, run_id)
    assert not queue.reject(connection, ExecutionRef(run_id), Peer("x"), "full", T0, T0 + GRACE)
    assert not queue.reject(connection, ExecutionRef(run_id, "other"), Peer("w"), "full", T0, T0 + GRACE)
    assert not queue.reject(connection, ExecutionRef("none"), Peer("w"), "full", T0, T0 + GRACE)
    assert stored(connection, run_id).state is RunState.PENDING


def test_a_run_listed_before_its_start_can_still_be_rejected(connection: Connection) -> None:
    run_id = add_run(connection)
    give(connection, run_id)
    reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0)
    assert queue.reject(connection, ExecutionRef(run_id), Peer("w"), "backend down", T0, T0 + GRACE)
    assert stored(connection, run_id).state is RunState.QUEUED


def test_a_run_that_shall_be_cancelled_is_not_queued_again(connection: Connection) -> None:
    run_id = add_run(connection)
    give(connection, run_id)
    reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0)
    reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    assert queue.reject(connection, ExecutionRef(run_id), Peer("w"), "backend down", T0, T0 + GRACE)
    run = stored(connection, run_id)
    assert run.state is RunState.CANCELLED
    assert run.message == 'Cancelled with the API key "alice"; worker w had not started it.'


def test_a_claimed_run_is_not_taken_back(connection: Connection) -> None:
    run_id = add_run(connection)
    give(connection, run_id)
    reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0)
    assert queue.unclaimed(connection, T0 + 3600 * S) == []
    assert queue.return_unclaimed(connection, [run_id], T0 + 3600 * S) == []
    assert queue.next_deadlines(connection, T0) == NextDeadlines()


def test_an_empty_queue_has_no_deadline(connection: Connection) -> None:
    add_run(connection)
    assert not any(queue.next_deadlines(connection, T0))


def test_the_deadline_survives_the_process(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        add_key(connection)
        run_id = add_run(connection)
        give(connection, run_id)
    # No close: the second engine finds what a killed process leaves, a WAL and no goodbye.
    second = open_engine(database_url)
    with second.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        assert queue.next_deadlines(connection, T0) == NextDeadlines(claim=T0 + 30 * S)
        assert queue.unclaimed(connection, T0 + 31 * S) == [record_of(connection, run_id)]
    second.dispose()
    engine.dispose()


def test_an_uncommitted_assignment_never_happened(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        add_key(connection)
        run_id = add_run(connection)
    with engine.connect().execution_options(**{WRITE: True}) as connection:
        transaction = connection.begin()
        give(connection, run_id)
        transaction.rollback()
    with engine.connect() as connection:
        assert waiting_ids(connection, T0, "w") == [run_id]
    engine.dispose()
