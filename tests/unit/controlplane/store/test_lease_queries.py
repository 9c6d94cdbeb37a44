from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError

from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.run_states import RunOutcome, RunState
from oz_agent_worker.controlplane.store import keys, lease_queries, logs, queue, reports
from oz_agent_worker.controlplane.store.engine import open_engine
from oz_agent_worker.controlplane.store.logs import Piece
from oz_agent_worker.controlplane.store.queue import Dispatch, NextDeadlines
from oz_agent_worker.controlplane.store.tables import lease_checkpoint, runs

from .support import (
    GRACE,
    HOST,
    OTHER_HOST,
    OTHER_POD,
    POD,
    PUBLIC,
    T0,
    S,
    add_run,
    give,
    lose,
    record_of,
    stored,
)


def a_run(connection: Connection, state: RunState, peer: Peer = HOST, **more: Any) -> str:
    run_id = add_run(connection, **more)
    if state is not RunState.QUEUED:
        give(connection, run_id, peer)
    if state is RunState.CLAIMED:
        reports.claim(connection, ExecutionRef(run_id), peer, T0)
    return run_id


def lease_of(connection: Connection, run_id: str) -> tuple[int | None, int | None]:
    run = stored(connection, run_id)
    return run.away_since, run.lease_until


def send_again(connection: Connection, run_id: str, peer: Peer, now: int = T0) -> bool:
    dispatches = [Dispatch(run_id, peer, "again")]
    return bool(queue.send_again(connection, dispatches, now, now + 30 * S, grace=GRACE))


def test_the_lease_of_an_unanswered_run_begins_once(connection: Connection) -> None:
    run_id = a_run(connection, RunState.PENDING)
    lose(connection, run_id)
    lose(connection, run_id, T0 + S)
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)
    assert queue.next_deadlines(connection, T0).lease == T0 + GRACE


def test_the_lease_of_what_somebody_had_begins_when_it_was_lost_last(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED)
    lose(connection, run_id)
    lose(connection, run_id, T0 + S)
    assert lease_of(connection, run_id) == (T0 + S, T0 + S + GRACE)


def test_what_is_not_claimed_in_time_has_a_lease_from_then_on(connection: Connection) -> None:
    late, claimed, queued = (
        a_run(connection, state) for state in (RunState.PENDING, RunState.CLAIMED, RunState.QUEUED)
    )
    ids, now = [late, claimed, queued], T0 + 30 * S
    queue.extend_deadline(connection, ids, now - 1, now + 29 * S, now + GRACE)
    assert lease_of(connection, late) == (None, None)
    for again in (now, now + 30 * S):
        queue.extend_deadline(connection, ids, again, again + 30 * S, again + GRACE)
        assert lease_of(connection, late) == (now, now + GRACE)
        assert queue.next_deadlines(connection, now).claim == again + 30 * S
    assert lease_of(connection, claimed) == lease_of(connection, queued) == (None, None)


def test_what_waits_or_has_ended_has_no_lease(connection: Connection) -> None:
    queued, ended = a_run(connection, RunState.QUEUED), a_run(connection, RunState.CLAIMED)
    outcome = RunOutcome(state=RunState.SUCCEEDED, message="")
    reports.finish(connection, ExecutionRef(ended), HOST, outcome, T0)
    lease_queries.begin(connection, [queued, ended], T0, T0 + GRACE)
    lease_queries.start(connection, T0, GRACE)
    assert queue.next_deadlines(connection, T0) == NextDeadlines()


def test_thousands_of_leases_begin_and_are_cleared(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED)
    ids = [f"unknown-{n}" for n in range(2500)] + [run_id]
    lease_queries.begin(connection, ids, T0, T0 + GRACE)
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)
    lease_queries.clear(connection, ids)
    assert lease_of(connection, run_id) == (None, None)


def test_leases_are_extended_and_never_cut(connection: Connection) -> None:
    early, late, held, queued = (
        a_run(connection, state, PUBLIC)
        for state in (RunState.CLAIMED, RunState.CLAIMED, RunState.CLAIMED, RunState.QUEUED)
    )
    lose(connection, early)
    lose(connection, late, T0 + 5000 * S)
    lease_queries.extend(connection, dict.fromkeys((early, late, held, queued), T0 + 6 * GRACE))
    assert lease_of(connection, early) == (T0, T0 + 6 * GRACE)
    assert lease_of(connection, late) == (T0 + 5000 * S, T0 + 5000 * S + GRACE)
    assert lease_of(connection, held) == lease_of(connection, queued) == (None, None)


def test_at_the_start_every_run_in_flight_is_waited_for(connection: Connection) -> None:
    held, early, late = (a_run(connection, RunState.CLAIMED) for _ in range(3))
    lose(connection, early)
    lease_queries.checkpoint(connection, T0 + 100 * S)
    lose(connection, late, T0 + 200 * S)
    back = T0 + 9000 * S
    lease_queries.start(connection, back, GRACE)
    assert lease_of(connection, held) == (back, back + GRACE)
    assert lease_of(connection, early) == (back - 100 * S, back + 500 * S)  # 100 s were waited for
    assert lease_of(connection, late) == (back, back + GRACE)


def test_after_a_pause_leases_go_on_and_none_begins(connection: Connection) -> None:
    held, awaited = (a_run(connection, RunState.CLAIMED) for _ in range(2))
    lose(connection, awaited)
    lease_queries.checkpoint(connection, T0 + 100 * S)
    back = T0 + 9000 * S
    lease_queries.resume(connection, back, GRACE)
    assert lease_of(connection, held) == (None, None)
    assert lease_of(connection, awaited) == (back - 100 * S, back + 500 * S)
    again = back + 50 * S
    lease_queries.resume(connection, again, GRACE)  # no control plane ran since
    assert lease_of(connection, awaited) == (again - 100 * S, again + 500 * S)


def test_a_lease_goes_on_over_any_number_of_starts(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED)
    lease_queries.start(connection, T0, GRACE)
    for life in range(1, 6):
        lease_queries.checkpoint(connection, T0 + life * 100 * S)
        lease_queries.start(connection, T0 + life * 100 * S, GRACE)
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)
    lease_queries.checkpoint(connection, T0 + GRACE)
    lease_queries.start(connection, T0 + GRACE, GRACE)
    # What is left is what a worker needs to reconnect.
    assert lease_of(connection, run_id) == (T0, T0 + GRACE + 75 * S)


def test_thousands_of_leases_go_on(connection: Connection) -> None:
    ids = [a_run(connection, RunState.PENDING) for _ in range(1100)]
    lease_queries.begin(connection, ids, T0, T0 + GRACE)
    lease_queries.start(connection, T0 + S, GRACE)
    leases = connection.execute(select(runs.c.away_since, runs.c.lease_until)).all()
    assert leases == [(T0 + S, T0 + S + GRACE)] * len(ids)


def test_there_is_one_checkpoint(connection: Connection) -> None:
    for now in (T0, T0 + S, T0 + 2 * S):
        lease_queries.checkpoint(connection, now)
    assert connection.execute(select(lease_checkpoint)).all() == [(1, T0 + 2 * S)]
    with pytest.raises(IntegrityError), connection.begin_nested():
        connection.execute(insert(lease_checkpoint).values(id=2, taken_at=T0))


@pytest.mark.parametrize("frame_kind", ["claim", "output", "report"])
def test_a_frame_of_its_worker_ends_the_lease(connection: Connection, frame_kind: str) -> None:
    run_id = a_run(connection, RunState.CLAIMED)
    execution = stored(connection, run_id).execution_id
    lose(connection, run_id)
    match frame_kind:
        case "claim":
            reports.claim(connection, ExecutionRef(run_id, execution), HOST, T0)
        case "output":
            ref = ExecutionRef(run_id, execution)
            assert logs.append(connection, ref, HOST, Piece(0, b"x"), retention=10, now=T0).held
        case _:
            ending = RunOutcome(state=RunState.SUCCEEDED, message="")
            reports.finish(connection, ExecutionRef(run_id, execution), HOST, ending, T0)
    assert lease_of(connection, run_id) == (None, None)


def test_a_frame_of_another_instance_does_not_end_the_lease(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED)
    execution = stored(connection, run_id).execution_id
    lose(connection, run_id)
    assert not reports.claim(connection, ExecutionRef(run_id, execution), OTHER_HOST, T0).accepted
    ref = ExecutionRef(run_id, execution)
    refused = logs.append(connection, ref, OTHER_HOST, Piece(0, b"x"), retention=10, now=T0)
    assert (refused.refused, refused.stored) == (True, False)
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)


def test_a_lease_that_ends(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED)
    lose(connection, run_id)
    assert lease_queries.due(connection, T0 + GRACE - 1, 10) == []
    assert lease_queries.expire(connection, [run_id], T0 + GRACE - 1, 5) == []
    assert lease_queries.due(connection, T0 + GRACE, 10) == [record_of(connection, run_id)]
    (ended,) = lease_queries.expire(connection, [run_id], T0 + GRACE, 5)
    run = stored(connection, run_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert (run.worker_id, run.ended_at, run.message) == ("w", T0 + GRACE, ended.outcome.message)
    assert lease_of(connection, run_id) == (None, None)
    assert lease_queries.expire(connection, [run_id], T0 + GRACE, 5) == []


def test_a_run_that_is_safe_to_retry_is_queued_as_a_fresh_execution(connection: Connection) -> None:
    run_id = add_run(connection, safe_to_retry=True)
    token = give(connection, run_id, POD)
    reports.claim(connection, ExecutionRef(run_id), POD, T0)
    before = stored(connection, run_id)
    lose(connection, run_id)
    lease_queries.expire(connection, [run_id], T0 + GRACE, 5)
    run, head = stored(connection, run_id), record_of(connection, run_id)
    assert (run.state, run.worker_id, head.retries, head.attempts) == (RunState.QUEUED, None, 1, 1)
    assert run.execution_id != before.execution_id
    assert keys.find_workload(connection, token) is None
    assert queue.next_deadlines(connection, T0 + GRACE).delay == T0 + GRACE + S
    # What is left of the first execution has no say any more.
    assert reports.claim(connection, ExecutionRef(run_id, before.execution_id), POD, T0 + GRACE).cancel
    done = RunOutcome(state=RunState.SUCCEEDED, message="")
    ref = ExecutionRef(run_id, before.execution_id)
    assert not reports.finish(connection, ref, POD, done, T0 + GRACE).changed


def test_a_run_that_is_safe_to_retry_is_started_so_often_and_no_more(connection: Connection) -> None:
    run_id, now = add_run(connection, safe_to_retry=True), T0
    for _ in range(3):
        assert stored(connection, run_id).state is RunState.QUEUED
        give(connection, run_id, HOST, now)
        lose(connection, run_id, now)
        now += GRACE
        lease_queries.expire(connection, [run_id], now, 3)
    run = stored(connection, run_id)
    assert (run.state, run.error_code, run.retryable) == (RunState.ERROR, "worker_lost", True)
    assert "started 3 times, the most that is allowed" in (run.message or "")


def test_a_run_that_shall_be_cancelled_is(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED, safe_to_retry=True)
    reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    lose(connection, run_id)
    lease_queries.expire(connection, [run_id], T0 + GRACE, 5)
    run = stored(connection, run_id)
    assert run.state is RunState.CANCELLED
    assert (run.message or "").startswith('Cancelled with the API key "alice"; worker w was away')


def test_orphans_are_what_a_connection_may_help(connection: Connection) -> None:
    pending, claimed = a_run(connection, RunState.PENDING), a_run(connection, RunState.CLAIMED)
    public = a_run(connection, RunState.CLAIMED, PUBLIC)
    held = a_run(connection, RunState.PENDING)
    for run_id in (pending, claimed, public):
        lose(connection, run_id)
    found = lease_queries.orphans(connection, ["w"])
    assert [(run.id, run.state, run.owner) for run in found] == [
        (pending, RunState.PENDING, HOST),
        (public, RunState.CLAIMED, PUBLIC),
    ]
    assert [run.claim_deadline for run in found] == [T0 + 30 * S, None]
    assert lease_queries.orphans(connection, ["x"]) == []
    assert stored(connection, held).lease_until is None


def test_an_assignment_is_sent_again_as_it_was(connection: Connection) -> None:
    run_id = add_run(connection)
    token, execution = give(connection, run_id, POD), stored(connection, run_id).execution_id
    lose(connection, run_id)
    assert send_again(connection, run_id, OTHER_POD, T0 + S)
    run, head = stored(connection, run_id), record_of(connection, run_id)
    assert (run.state, run.execution_id, head.owner, head.resent) == (
        RunState.PENDING,
        execution,
        OTHER_POD,
        True,
    )
    assert lease_of(connection, run_id) == (T0, T0 + S + GRACE)  # it has the grace for an answer
    assert queue.next_deadlines(connection, T0).claim == T0 + 31 * S
    # The first may be the one that runs, so its agent's token is good as well.
    assert keys.find_workload(connection, token) == keys.find_workload(connection, "again") == run_id


def test_sent_again_to_the_same_instance_it_was_sent_to_one(connection: Connection) -> None:
    run_id = a_run(connection, RunState.PENDING, HOST)
    lose(connection, run_id)
    assert send_again(connection, run_id, HOST)
    assert not record_of(connection, run_id).resent


def test_of_a_public_worker_only_an_answer_ends_the_lease(connection: Connection) -> None:
    run_id = a_run(connection, RunState.PENDING, PUBLIC)
    lose(connection, run_id)
    assert send_again(connection, run_id, PUBLIC)
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)
    assert reports.claim(connection, ExecutionRef(run_id), PUBLIC, T0).accepted
    assert lease_of(connection, run_id) == (None, None)


def test_nothing_is_sent_again_that_has_been_answered_or_is_held(connection: Connection) -> None:
    claimed, held = a_run(connection, RunState.CLAIMED, POD), a_run(connection, RunState.PENDING, POD)
    lose(connection, claimed)
    assert not send_again(connection, claimed, OTHER_POD)
    assert not send_again(connection, held, OTHER_POD)
    other = a_run(connection, RunState.PENDING, HOST)
    lose(connection, other)
    assert not send_again(connection, other, OTHER_HOST)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_rejection_by_one_of_several_that_were_sent_it_proves_nothing(
    connection: Connection, claimed: bool
) -> None:
    run_id = a_run(connection, RunState.PENDING, POD)
    lose(connection, run_id)
    send_again(connection, run_id, OTHER_POD)
    if claimed:
        reports.claim(connection, ExecutionRef(run_id), OTHER_POD, T0)
    assert queue.reject(connection, ExecutionRef(run_id), OTHER_POD, "full", T0 + S, T0 + S + GRACE)
    run = stored(connection, run_id)
    assert (run.state, run.worker_id) == (RunState.PENDING, "w")
    lease = (T0 + S, T0 + S + GRACE) if claimed else (T0, T0 + GRACE)
    assert lease_of(connection, run_id) == lease
    # The first turns out to have it.
    assert reports.claim(connection, ExecutionRef(run_id, run.execution_id), POD, T0 + 2 * S).accepted


def test_a_rejection_by_another_instance_is_ignored(connection: Connection) -> None:
    run_id = a_run(connection, RunState.PENDING, HOST)
    assert not queue.reject(connection, ExecutionRef(run_id), OTHER_HOST, "full", T0, T0 + GRACE)


def test_what_was_never_sent_waits_for_anybody_at_once(connection: Connection) -> None:
    run_id = add_run(connection)
    token, execution = give(connection, run_id, HOST), stored(connection, run_id).execution_id
    assert queue.withdraw(connection, [ExecutionRef(run_id, "other")], T0, T0 + GRACE) == []
    refs = [ExecutionRef(run_id, execution), ExecutionRef("none", "e")]
    assert queue.withdraw(connection, refs, T0, T0 + GRACE) == [run_id]
    assert [run.id for run in queue.queued(connection, T0, ["x"], 10)] == [run_id]
    assert record_of(connection, run_id).attempts == 0
    assert keys.find_workload(connection, token) is None


def test_what_was_not_sent_a_second_time_may_still_run_from_the_first(connection: Connection) -> None:
    run_id = a_run(connection, RunState.PENDING, POD)
    execution = stored(connection, run_id).execution_id
    lose(connection, run_id)
    send_again(connection, run_id, OTHER_POD)
    assert queue.withdraw(connection, [ExecutionRef(run_id, execution)], T0, T0 + GRACE) == []
    assert stored(connection, run_id).state is RunState.PENDING
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)


def test_what_a_worker_says_of_itself_late_is_recorded(connection: Connection) -> None:
    run_id, other = (
        a_run(connection, RunState.PENDING, PUBLIC),
        a_run(connection, RunState.PENDING, Peer("x")),
    )
    lease_queries.set_owner(connection, [run_id, other], HOST)
    assert record_of(connection, run_id).owner == HOST
    assert record_of(connection, other).owner == Peer("x")


def test_the_next_lease_is_found_by_an_index(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect() as connection:
        plan = connection.execute(
            text("EXPLAIN QUERY PLAN SELECT min(lease_until) FROM runs WHERE lease_until IS NOT NULL")
        ).all()
    engine.dispose()
    assert "USING COVERING INDEX ix_runs_lease_until" in str(plan)


def test_the_time_to_confirm_a_cancellation_does_not_begin_again_with_a_lost_connection(
    connection: Connection,
) -> None:
    run_id = a_run(connection, RunState.CLAIMED, PUBLIC)
    reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    lose(connection, run_id, T0 + 300 * S)
    assert lease_of(connection, run_id) == (T0, T0 + GRACE)


def test_a_worker_that_confirms_cancellations_has_a_lease_from_its_loss_on(connection: Connection) -> None:
    run_id = a_run(connection, RunState.CLAIMED, HOST)
    reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    lose(connection, run_id, T0 + 300 * S)
    assert lease_of(connection, run_id) == (T0 + 300 * S, T0 + 300 * S + GRACE)


def test_a_cancellation_has_no_longer_because_its_worker_connected_again(connection: Connection) -> None:
    asked, other = a_run(connection, RunState.CLAIMED, PUBLIC), a_run(connection, RunState.CLAIMED, PUBLIC)
    for run_id in (asked, other):
        lose(connection, run_id)
    reports.cancel(connection, asked, T0, T0 + GRACE, "alice")  # after the leases were read
    lease_queries.extend(connection, {asked: T0 + 6 * GRACE, other: T0 + 6 * GRACE})
    assert lease_of(connection, asked) == (T0, T0 + GRACE)
    assert lease_of(connection, other) == (T0, T0 + 6 * GRACE)


def test_a_rejection_by_one_of_several_proves_no_cancellation(connection: Connection) -> None:
    run_id = a_run(connection, RunState.PENDING, POD)
    lose(connection, run_id)
    send_again(connection, run_id, OTHER_POD)
    reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    assert queue.reject(connection, ExecutionRef(run_id), OTHER_POD, "full", T0 + S, T0 + S + GRACE)
    # The first may have started it, and has not answered.
    assert stored(connection, run_id).state is RunState.PENDING
    claim = reports.claim(connection, ExecutionRef(run_id), POD, T0 + 2 * S)
    assert (claim.accepted, claim.cancel) == (True, True)
