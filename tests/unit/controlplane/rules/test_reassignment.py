import pytest

from oz_agent_worker.controlplane.rules.peer import Peer
from oz_agent_worker.controlplane.rules.reassignment import Orphan, Rescue, Station, rescue, returns_to_queue
from oz_agent_worker.controlplane.rules.run_states import RunState
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

S = RunState
SENT, KEPT, LEFT = "sent again", "kept alive", "left alone"


def what_happens(orphan: Orphan, *stations: Station) -> str:
    found = rescue([orphan], stations)
    return (SENT if found[0].send else KEPT) if found else LEFT


@pytest.mark.parametrize(
    ("state", "owner", "overdue", "peer", "expected"),
    [
        # It found what it ran, and did not name this: it never started it.
        (S.PENDING, HOST, False, HOST, SENT),
        # On another host, nothing keeps the work from being started a second time.
        (S.PENDING, HOST, True, OTHER_HOST, LEFT),
        (S.PENDING, HOST, True, PUBLIC, LEFT),
        # The Job's name keeps it from being created twice.
        (S.PENDING, POD, False, OTHER_POD, SENT),
        (S.PENDING, POD, True, Peer("x", "kubernetes", "pod/n/c/3"), LEFT),
        (S.PENDING, HOST, True, POD, LEFT),
        # Public: what has not been claimed for so long was not started.
        (S.PENDING, PUBLIC, False, PUBLIC, LEFT),
        (S.PENDING, PUBLIC, True, PUBLIC, SENT),
        (S.PENDING, PUBLIC, True, Peer("x"), LEFT),
        (S.PENDING, PUBLIC, True, HOST, LEFT),
        # What runs is never sent again; a public worker cannot say that it still has it.
        (S.CLAIMED, HOST, True, HOST, LEFT),
        (S.CLAIMED, POD, True, OTHER_POD, LEFT),
        (S.CLAIMED, PUBLIC, False, PUBLIC, KEPT),
        (S.INPROGRESS, PUBLIC, False, PUBLIC, KEPT),
        (S.CLAIMED, PUBLIC, False, HOST, LEFT),
        (S.CLAIMED, PUBLIC, False, Peer("x"), LEFT),
    ],
)
def test_what_a_connection_can_do_for_an_orphan(
    state: RunState, owner: Peer, overdue: bool, peer: Peer, expected: str
) -> None:
    orphan = Orphan("r", state, owner, overdue)
    assert what_happens(orphan, Station(1, peer)) == expected
    assert what_happens(orphan) == LEFT


def test_who_may_yet_say_hello_is_not_taken_for_a_public_worker() -> None:
    unsettled = Station(1, PUBLIC, settled=False)
    assert what_happens(Orphan("r", S.PENDING, PUBLIC, overdue=True), unsettled) == LEFT
    assert what_happens(Orphan("r", S.CLAIMED, PUBLIC), unsettled) == LEFT


def test_room_is_kept_to_the_oldest_first() -> None:
    orphans = [Orphan(f"r{n}", S.PENDING, POD) for n in range(4)]
    stations = [Station(1, OTHER_POD, free=1), Station(2, POD, free=0), Station(3, POD, free=2)]
    assert rescue(orphans, stations) == (
        Rescue("r0", 1, send=True),
        Rescue("r1", 3, send=True),
        Rescue("r2", 3, send=True),
    )


def test_what_a_public_worker_runs_needs_no_room() -> None:
    assert what_happens(Orphan("r", S.CLAIMED, PUBLIC), Station(1, PUBLIC, free=0)) == KEPT


@pytest.mark.parametrize(
    ("holder", "resent", "returns"),
    [
        (PUBLIC, False, True),
        (PUBLIC, True, False),
        (HOST, False, False),
        (POD, False, False),
        (None, False, False),
        (None, True, False),
    ],
)
def test_what_is_not_claimed_in_time(holder: Peer | None, resent: bool, returns: bool) -> None:
    assert returns_to_queue(holder, resent=resent) is returns
