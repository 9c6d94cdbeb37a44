from dataclasses import replace

import pytest

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord, decide_claim, decide_report
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, TERMINAL, RunState
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

STRANGER = Peer("x", "direct", "host/x")
S = RunState


def a_record(state: RunState, owner: Peer | None = None, *, retries: int = 0) -> RunRecord:
    return RunRecord(
        id="r",
        execution_id="e",
        state=state,
        owner=owner,
        retries=retries,
    )


def test_a_run_has_not_been_tried_before_unless_its_record_says_so() -> None:
    run = a_record(S.QUEUED)
    assert (run.attempts, run.retries) == (0, 0)
    assert [run.resent, run.safe_to_retry, run.cancel_requested] == [False] * 3


#: Of whom a run is, who speaks, and whether that counts.
SPEAKERS = [
    (HOST, HOST, True),
    (HOST, OTHER_HOST, False),
    (HOST, PUBLIC, False),
    (HOST, STRANGER, False),
    (POD, OTHER_POD, True),
    (PUBLIC, PUBLIC, True),
    (PUBLIC, STRANGER, False),
]


@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
@pytest.mark.parametrize(("owner", "peer", "counts"), SPEAKERS)
def test_the_owner_may_report_for_a_run_in_flight(
    state: RunState, owner: Peer, peer: Peer, counts: bool
) -> None:
    run = a_record(state, owner)
    assert decide_report(run, "e", peer).accepted is counts
    assert decide_claim(run, "e", peer).accepted is counts


@pytest.mark.parametrize("peer", [HOST, STRANGER, PUBLIC])
def test_what_waits_in_the_queue_is_whose_execution_it_was(peer: Peer) -> None:
    assert decide_claim(a_record(S.QUEUED), "e", peer).accepted
    assert decide_report(a_record(S.QUEUED), "e", peer).accepted


@pytest.mark.parametrize("state", [s for s in S if s is not S.BLOCKED])
def test_another_execution_never_counts(state: RunState) -> None:
    run = a_record(state, HOST)
    assert decide_claim(run, "old", HOST).why == decide_report(run, "old", HOST).why == "another execution"
    assert not decide_claim(run, "old", HOST).accepted


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_no_worker_may_report_for_an_ended_run(state: RunState) -> None:
    run = a_record(state, HOST)
    assert not decide_claim(run, "e", HOST).accepted
    assert decide_report(run, "e", HOST).why == f"already {state}"


def test_a_public_workers_report_does_not_count_for_a_later_queued_execution() -> None:
    assert decide_claim(a_record(S.QUEUED), None, PUBLIC).accepted
    assert not decide_claim(a_record(S.QUEUED, retries=1), None, PUBLIC).accepted
    assert not decide_report(a_record(S.QUEUED, retries=1), None, PUBLIC).accepted
    assert decide_report(a_record(S.QUEUED, retries=1), "e", HOST).accepted


@pytest.mark.parametrize(
    ("state", "owner", "peer", "accepted"),
    [
        # A public worker that connected again, and read the assignment before.
        (S.PENDING, PUBLIC, PUBLIC, True),
        # Another process of its ID, that was sent it at another time.
        (S.CLAIMED, PUBLIC, PUBLIC, False),
        (S.INPROGRESS, PUBLIC, PUBLIC, False),
        # The same process over a fresh connection; the old one is dead without a sign of it.
        (S.CLAIMED, HOST, HOST, True),
        (S.CLAIMED, POD, OTHER_POD, True),
        (S.CLAIMED, HOST, OTHER_HOST, False),
        (S.QUEUED, None, PUBLIC, True),
    ],
)
def test_claims_of_what_another_open_connection_has(
    state: RunState, owner: Peer | None, peer: Peer, accepted: bool
) -> None:
    assert decide_claim(a_record(state, owner), None, peer, elsewhere=True).accepted is accepted


def test_a_report_after_a_refused_claim_does_not_count() -> None:
    assert not decide_report(a_record(S.CLAIMED, PUBLIC), None, PUBLIC, refused=True).accepted


@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
def test_a_report_of_a_retried_run_that_names_no_execution(state: RunState) -> None:
    """It may be of an earlier execution: where another open connection has this one, it is."""
    first, again = a_record(state, PUBLIC), a_record(state, PUBLIC, retries=1)
    for elsewhere in (False, True):
        assert decide_report(first, None, PUBLIC, elsewhere=elsewhere).accepted
        assert decide_report(again, "e", PUBLIC, elsewhere=elsewhere).accepted
    assert decide_report(again, None, PUBLIC).accepted
    assert decide_report(again, None, PUBLIC, elsewhere=True).why == "it may be of an earlier execution"


def test_nobody_asked_to_cancel_the_current_execution() -> None:
    """A public worker that was asked to stop an earlier execution answers under the run's ID."""
    first, again = a_record(S.CLAIMED, PUBLIC), a_record(S.CLAIMED, PUBLIC, retries=1)
    assert not decide_report(again, None, PUBLIC, cancelled=True).accepted
    assert decide_report(first, None, PUBLIC, cancelled=True).accepted
    assert decide_report(again, "e", PUBLIC, cancelled=True).accepted
    asked = replace(again, cancel_requested=True)
    assert decide_report(asked, None, PUBLIC, cancelled=True).accepted


@pytest.mark.parametrize(
    ("owner", "public"), [(None, False), (PUBLIC, True), (HOST, False), (Peer("w", "direct"), False)]
)
def test_whose_run_is_a_public_workers(owner: Peer | None, public: bool) -> None:
    assert a_record(S.CLAIMED, owner).is_public is public


NAMELESS = Peer("w", "direct")


def slot(number: int, journal: str = "a" * 32, worker_id: str = "w") -> Peer:
    """A direct worker, by its slot in a journal."""
    return Peer(worker_id, "direct", f"host/{journal}/{number}")


@pytest.mark.parametrize(
    ("owner", "peer", "again", "speaks"),
    [
        (HOST, HOST, True, True),
        (HOST, OTHER_HOST, False, False),
        (HOST, PUBLIC, False, False),
        (HOST, NAMELESS, False, False),
        (HOST, POD, False, False),
        (POD, POD, True, True),
        (POD, OTHER_POD, True, True),
        (POD, HOST, False, False),
        (POD, Peer("x", "kubernetes", "pod/n/a/1"), False, False),
        (PUBLIC, PUBLIC, False, True),
        (PUBLIC, HOST, False, True),
        (PUBLIC, Peer("x"), False, False),
        (NAMELESS, NAMELESS, False, True),
        (NAMELESS, HOST, False, True),
        (Peer("w", "kubernetes"), POD, True, True),
        (slot(0), slot(0), True, True),
        (slot(0), slot(1), False, True),
        (slot(10), slot(1), False, True),
        (slot(0), slot(0, "b" * 32), False, False),
        (slot(0), slot(1, "b" * 32), False, False),
        (slot(0), slot(0, worker_id="x"), False, False),
        (slot(0), slot(1, worker_id="x"), False, False),
        (slot(0), NAMELESS, False, False),
        (NAMELESS, slot(1), False, True),
        # The host's name in place of a journal's is shared by strangers.
        (Peer("w", "direct", "host/name/1"), Peer("w", "direct", "host/name/2"), False, False),
    ],
)
def test_who_is_who(owner: Peer, peer: Peer, again: bool, speaks: bool) -> None:
    assert (peer.same_instance(owner), peer.may_report_for(owner)) == (again, speaks)


def test_a_nameless_peer_has_sent_hello_and_a_public_one_has_not() -> None:
    assert NAMELESS.sent_hello
    assert not PUBLIC.sent_hello
