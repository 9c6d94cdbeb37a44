import pytest

from oz_agent_worker.controlplane.rules.peer import Peer
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

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


def test_a_hello_tells() -> None:
    assert NAMELESS.sent_hello
    assert not PUBLIC.sent_hello
