import pytest
from sqlalchemy import Connection

from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunOutcome, RunState
from oz_agent_worker.controlplane.store import queue, reports
from oz_agent_worker.controlplane.store.reports import ClaimResult, ReportResult

from .support import GRACE, HOST, PUBLIC, T0, S, add_run, give, state_before, stored

DONE = RunOutcome(state=RunState.SUCCEEDED, message="done", exit_code=0)
CANCELLED = RunOutcome(state=RunState.CANCELLED, message="")
FAILED = RunOutcome(
    state=RunState.FAILED, message="exit 2", error_code="container_exit", retryable=False, exit_code=2
)


def a_pending_run(connection: Connection, peer: Peer = PUBLIC) -> str:
    run_id = add_run(connection)
    give(connection, run_id, peer)
    return run_id


def a_claimed_run(connection: Connection) -> str:
    run_id = a_pending_run(connection)
    assert reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0).accepted
    return run_id


def test_a_claim(connection: Connection) -> None:
    run_id = a_pending_run(connection)
    execution = stored(connection, run_id).execution_id
    assert reports.claim(connection, ExecutionRef(run_id, execution), Peer("w"), T0 + S) == ClaimResult(
        accepted=True, why="claimed"
    )
    run = stored(connection, run_id)
    assert (run.state, run.worker_id, run.started_at) == (RunState.CLAIMED, "w", T0 + S)


def test_a_claim_that_comes_late_is_taken(connection: Connection) -> None:
    run_id = a_pending_run(connection)
    queue.return_unclaimed(connection, [run_id], T0 + 30 * S)
    assert reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0 + 31 * S).accepted
    run = stored(connection, run_id)
    assert (run.state, run.worker_id) == (RunState.CLAIMED, "w")


def test_a_claim_twice_is_harmless(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    assert reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0 + S) == ClaimResult(
        accepted=True, why="again"
    )


@pytest.mark.parametrize("state", ["another", "unknown", "held", "ended"])
def test_claims_that_are_ignored(connection: Connection, state: str) -> None:
    run_id = a_claimed_run(connection)
    before = stored(connection, run_id)
    match state:
        case "another":
            claim = reports.claim(connection, ExecutionRef(run_id, "other"), Peer("w"), T0)
        case "unknown":
            claim = reports.claim(connection, ExecutionRef("nothing"), Peer("w"), T0)
        case "held":
            claim = reports.claim(connection, ExecutionRef(run_id), Peer("x"), T0)
        case _:
            reports.finish(connection, ExecutionRef(run_id), Peer("w"), DONE, T0)
            before = stored(connection, run_id)
            claim = reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0)
    # An execution that may not run is asked to stop; an unknown one is left alone.
    assert (claim.accepted, claim.cancel) == (False, state != "unknown")
    assert claim.ended == (state == "ended")
    assert stored(connection, run_id) == before


def test_a_worker_that_claims_a_cancelled_run_is_asked_to_stop(connection: Connection) -> None:
    run_id = a_pending_run(connection)
    queue.return_unclaimed(connection, [run_id], T0 + 30 * S)
    assert state_before(reports.cancel(connection, run_id, T0, T0 + GRACE)) is RunState.QUEUED
    assert reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0).cancel


def test_whoever_claims_again_is_reminded_of_the_cancellation(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    reports.cancel(connection, run_id, T0, T0 + GRACE)
    assert reports.claim(connection, ExecutionRef(run_id), Peer("w"), T0) == ClaimResult(
        accepted=True, why="again", cancel=True
    )


def test_an_ending(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    finish = reports.finish(connection, ExecutionRef(run_id), Peer("w"), FAILED, T0 + S)
    assert (finish.changed, finish.state) == (True, RunState.FAILED)
    run = stored(connection, run_id)
    assert (run.state, run.message, run.error_code) == (RunState.FAILED, "exit 2", "container_exit")
    assert (run.retryable, run.exit_code, run.ended_at) == (False, 2, T0 + S)


def test_the_first_ending_wins(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    reports.finish(connection, ExecutionRef(run_id), Peer("w"), DONE, T0)
    before = stored(connection, run_id)
    later = reports.finish(connection, ExecutionRef(run_id), Peer("x"), FAILED, T0 + S)
    assert later == ReportResult(changed=False, state=RunState.SUCCEEDED, why="already SUCCEEDED")
    assert stored(connection, run_id) == before


@pytest.mark.parametrize("assigned", [True, False])
def test_an_ending_without_a_claim_is_taken(connection: Connection, assigned: bool) -> None:
    run_id = a_pending_run(connection) if assigned else add_run(connection)
    assert reports.finish(connection, ExecutionRef(run_id), Peer("w"), DONE, T0).changed
    assert stored(connection, run_id).state is RunState.SUCCEEDED


def test_an_ending_of_another_execution_changes_nothing(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    other = reports.finish(connection, ExecutionRef(run_id, "other"), Peer("w"), DONE, T0)
    assert other == ReportResult(changed=False, state=RunState.CLAIMED, why="another execution")
    nothing = reports.finish(connection, ExecutionRef("nothing"), Peer("w"), DONE, T0)
    assert nothing == ReportResult(changed=False, state=None, why="no such run")


def test_cancelling_in_the_queue_is_done_at_once(connection: Connection) -> None:
    run_id = add_run(connection)
    assert state_before(reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")) is RunState.QUEUED
    run = stored(connection, run_id)
    assert run.state is RunState.CANCELLED
    assert run.message == 'Cancelled with the API key "alice"; no worker had it.'
    assert state_before(reports.cancel(connection, run_id, T0, T0 + GRACE, "bob")) in TERMINAL
    assert stored(connection, run_id) == run


def test_cancelling_on_the_way_to_a_public_worker_must_wait(connection: Connection) -> None:
    run_id = a_pending_run(connection)
    run = reports.cancel(connection, run_id, T0, T0 + GRACE)
    assert run is not None
    assert run.state is RunState.PENDING
    assert not reports.is_cancellable(run)
    assert not stored(connection, run_id).cancel_requested


@pytest.mark.parametrize("answer", ["claims", "rejects", "is silent"])
def test_cancelling_on_the_way_to_a_worker_is_remembered_until_it_answers(
    connection: Connection, answer: str
) -> None:
    """K5: its worker may be busy for minutes with the creation of a Job."""
    run_id = a_pending_run(connection, HOST)
    run = reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    assert run is not None
    assert reports.is_cancellable(run)
    assert stored(connection, run_id).state is RunState.PENDING
    assert reports.pending_cancellations(connection, HOST.worker_id) == [run_id]
    if answer == "claims":
        assert reports.claim(connection, ExecutionRef(run_id), HOST, T0).cancel
        return
    if answer == "rejects":
        assert queue.reject(connection, ExecutionRef(run_id), HOST, "backend_unavailable", T0, T0)
    else:
        assert [r.id for r in queue.return_unclaimed(connection, [run_id], T0)] == [run_id]
    ended = stored(connection, run_id)
    assert ended.state is RunState.CANCELLED
    assert ended.message == 'Cancelled with the API key "alice"; worker w had not started it.'


def test_a_cancelled_assignment_that_was_not_sent_is_not_queued_again(connection: Connection) -> None:
    """K5: its connection was closed before it."""
    run_id = a_pending_run(connection, HOST)
    run = reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    assert run is not None
    queue.withdraw(connection, [run.ref], T0, T0)
    assert stored(connection, run_id).state is RunState.CANCELLED


def test_cancelling_at_a_worker_is_remembered_until_the_worker_says_so(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    assert reports.pending_cancellations(connection, "w") == []
    assert state_before(reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")) is RunState.CLAIMED
    assert state_before(reports.cancel(connection, run_id, T0, T0 + GRACE, "bob")) is RunState.CLAIMED
    assert reports.pending_cancellations(connection, "w") == [run_id]
    assert reports.pending_cancellations(connection, "x") == []
    assert stored(connection, run_id).state is RunState.CLAIMED
    reports.finish(connection, ExecutionRef(run_id), Peer("w"), CANCELLED, T0)
    assert reports.pending_cancellations(connection, "w") == []
    run = stored(connection, run_id)
    assert (run.state, run.error_code) == (RunState.CANCELLED, None)
    assert run.message == (
        'Cancelled with the API key "alice"; '
        "worker w reported it as cancelled, which does not show that the task stopped."
    )


def test_a_worker_that_sent_a_hello_reports_a_cancellation_when_it_is_done(connection: Connection) -> None:
    peer = Peer("w", "direct", "host/a")
    run_id = add_run(connection)
    give(connection, run_id, peer)
    reports.claim(connection, ExecutionRef(run_id), peer, T0)
    reports.cancel(connection, run_id, T0, T0 + GRACE, "alice")
    assert stored(connection, run_id).lease_until is None
    reports.finish(connection, ExecutionRef(run_id), peer, CANCELLED, T0)
    assert stored(connection, run_id).message == ('Cancelled with the API key "alice"; worker w stopped it.')


def test_a_worker_may_cancel_a_run_without_a_request(connection: Connection) -> None:
    run_id = a_claimed_run(connection)
    ending = RunOutcome(state=RunState.CANCELLED, message="the host is drained")
    reports.finish(connection, ExecutionRef(run_id), Peer("w"), ending, T0)
    assert stored(connection, run_id).message == "Cancelled by worker w: the host is drained."


def test_a_worker_may_name_a_run_that_no_database_can_look_for(connection: Connection) -> None:
    """P8: its frame has no effect, and its connection stays open."""
    ref = ExecutionRef("a\0b", "e\0")
    assert reports.claim(connection, ref, Peer("w"), T0).why == "no such run"
    assert reports.finish(connection, ref, Peer("w"), CANCELLED, T0).why == "no such run"
    assert not queue.reject(connection, ref, Peer("w"), "full", T0, T0)


def test_a_run_that_does_not_exist_cannot_be_cancelled(connection: Connection) -> None:
    assert reports.cancel(connection, "nothing", T0, T0 + GRACE) is None
