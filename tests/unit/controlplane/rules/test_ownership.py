import pytest

from oz_agent_worker.controlplane.rules.ownership import rule_claim, rule_report
from oz_agent_worker.controlplane.rules.peer import Peer
from oz_agent_worker.controlplane.rules.run_record import Head
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, TERMINAL, RunState
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

STRANGER = Peer("x", "direct", "host/x")
S = RunState


def a_head(state: RunState, owner: Peer | None = None, *, retries: int = 0) -> Head:
    return Head(
        id="r",
        execution_id="e",
        state=state,
        worker_id=owner.worker_id if owner else None,
        worker_backend=owner.backend if owner else None,
        worker_instance=owner.instance if owner else None,
        retries=retries,
    )


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
def test_of_a_run_in_flight_the_owners_word_counts(
    state: RunState, owner: Peer, peer: Peer, counts: bool
) -> None:
    run = a_head(state, owner)
    assert rule_report(run, "e", peer).accepted is counts
    assert rule_claim(run, "e", peer).accepted is counts


@pytest.mark.parametrize("peer", [HOST, STRANGER, PUBLIC])
def test_what_waits_in_the_queue_is_whose_execution_it_was(peer: Peer) -> None:
    assert rule_claim(a_head(S.QUEUED), "e", peer).accepted
    assert rule_report(a_head(S.QUEUED), "e", peer).accepted


@pytest.mark.parametrize("state", [s for s in S if s is not S.BLOCKED])
def test_another_execution_never_counts(state: RunState) -> None:
    run = a_head(state, HOST)
    assert rule_claim(run, "old", HOST).why == rule_report(run, "old", HOST).why == "another execution"
    assert not rule_claim(run, "old", HOST).accepted


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_ended_run_has_nobody_to_speak_for_it(state: RunState) -> None:
    run = a_head(state, HOST)
    assert not rule_claim(run, "e", HOST).accepted
    assert rule_report(run, "e", HOST).why == f"already {state}"


def test_who_cannot_tell_executions_apart_is_not_heard_of_a_later_one_in_the_queue() -> None:
    assert rule_claim(a_head(S.QUEUED), None, PUBLIC).accepted
    assert not rule_claim(a_head(S.QUEUED, retries=1), None, PUBLIC).accepted
    assert not rule_report(a_head(S.QUEUED, retries=1), None, PUBLIC).accepted
    assert rule_report(a_head(S.QUEUED, retries=1), "e", HOST).accepted


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
    assert rule_claim(a_head(state, owner), None, peer, elsewhere=True).accepted is accepted


def test_a_report_after_a_refused_claim_does_not_count() -> None:
    assert not rule_report(a_head(S.CLAIMED, PUBLIC), None, PUBLIC, refused=True).accepted
