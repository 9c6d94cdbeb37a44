from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.rules.scheduling import (
    Capacity,
    ConnectionSnapshot,
    Placement,
    place_runs,
    reassign,
    reconnected_leases,
    requeue_delay,
    returns_to_queue,
)
from oz_agent_worker.controlplane.times import micros
from tests.unit.controlplane.store.support import HOST, OTHER_HOST, OTHER_POD, POD, PUBLIC

HOSTS = st.sampled_from(["a", "b", "c"])


@st.composite
def queues(draw: st.DrawFn) -> list[RunRecord]:
    hosts = draw(st.lists(st.none() | HOSTS, max_size=40))
    return [queued(f"run-{i}", host) for i, host in enumerate(hosts)]


@st.composite
def fleets(draw: st.DrawFn) -> list[ConnectionSnapshot]:
    shapes = draw(st.lists(st.tuples(HOSTS, st.none() | st.integers(0, 8), st.integers(0, 20)), max_size=8))
    return [snapshot(i, worker, free, served) for i, (worker, free, served) in enumerate(shapes)]


def queued(run_id: str, worker_host: str | None = None) -> RunRecord:
    return RunRecord(id=run_id, execution_id="e", state=RunState.QUEUED, worker_host=worker_host)


def snapshot(
    number: int, worker_id: str = "a", free: int | None = None, last_served: int = 0
) -> ConnectionSnapshot:
    return ConnectionSnapshot(number, Peer(worker_id), free, last_served)


def load(assignments: tuple[Placement, ...]) -> Counter[int]:
    return Counter(a.connection_id for a in assignments)


@settings(deadline=None)
@given(queues(), fleets())
def test_no_run_goes_twice_and_no_connection_gets_more_than_it_can_take(
    waiting: list[RunRecord], fleet: list[ConnectionSnapshot]
) -> None:
    assignments = place_runs(waiting, fleet)
    assert len({a.run_id for a in assignments}) == len(assignments)
    for connection_id, count in load(assignments).items():
        free = fleet[connection_id].free
        assert free is None or count <= free


@settings(deadline=None)
@given(queues(), fleets())
def test_a_named_worker_is_respected(waiting: list[RunRecord], fleet: list[ConnectionSnapshot]) -> None:
    hosts = {run.id: run.worker_host for run in waiting}
    for assignment in place_runs(waiting, fleet):
        assert hosts[assignment.run_id] in (None, fleet[assignment.connection_id].peer.worker_id)


@settings(deadline=None)
@given(queues(), fleets())
def test_runs_of_one_host_keep_their_order(waiting: list[RunRecord], fleet: list[ConnectionSnapshot]) -> None:
    assigned = {a.run_id for a in place_runs(waiting, fleet)}
    by_host: defaultdict[str | None, list[bool]] = defaultdict(list)
    for run in waiting:
        by_host[run.worker_host].append(run.id in assigned)
    for taken in by_host.values():
        assert taken == sorted(taken, reverse=True)  # those that wait came last


@settings(deadline=None)
@given(queues(), fleets())
def test_no_run_waits_beside_room_for_it(waiting: list[RunRecord], fleet: list[ConnectionSnapshot]) -> None:
    assignments = place_runs(waiting, fleet)
    used, assigned = load(assignments), {a.run_id for a in assignments}
    spare = {o.peer.worker_id for o in fleet if o.free is None or used[o.connection_id] < o.free}
    for run in waiting:
        if run.id not in assigned:
            assert not spare if run.worker_host is None else run.worker_host not in spare


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 8))
def test_equal_connections_share_equally(runs: int, connections: int) -> None:
    fleet = [snapshot(i) for i in range(connections)]
    counts = load(place_runs([queued(f"run-{i}") for i in range(runs)], fleet))
    shares = [counts[o.connection_id] for o in fleet]
    assert max(shares) - min(shares) <= 1


def test_the_one_served_longest_ago_comes_first() -> None:
    fleet = [
        snapshot(1, "a", 1, last_served=9),
        snapshot(2, "a", 1, last_served=4),
    ]
    assert place_runs([queued("r")], fleet) == (Placement("r", 2),)


def test_round_robin_goes_on_where_it_stopped() -> None:
    fleet = [
        snapshot(1, "a", None, last_served=2),
        snapshot(2, "a", None, last_served=3),
    ]
    runs = [queued(f"r{i}") for i in range(3)]
    assert [a.connection_id for a in place_runs(runs, fleet)] == [1, 2, 1]


def test_delays_double_up_to_a_minute() -> None:
    assert [requeue_delay(n) // 1_000_000 for n in range(9)] == [1, 1, 2, 4, 8, 16, 32, 60, 60]
    assert requeue_delay(10**6) == 60_000_000


NOW = micros(1000)
S = micros(1)


def test_a_worker_that_says_nothing_is_unlimited() -> None:
    assert Capacity().free(1000, NOW) is None


def test_nothing_is_given_before_a_worker_could_say_hello() -> None:
    fresh = Capacity(ready_at=NOW + S)
    assert fresh.free(0, NOW) == 0
    assert fresh.free(0, NOW + S) is None
    assert fresh.sent_hello(3).free(0, NOW) == 3


def test_a_declared_limit_is_kept() -> None:
    capacity = Capacity().sent_hello(3)
    assert [capacity.free(n, NOW) for n in (0, 2, 3, 4)] == [3, 1, 0, 0]


def test_zero_declared_means_unlimited() -> None:
    assert Capacity().sent_hello(0).free(5000, NOW) is None


def test_a_rejection_teaches_the_limit_and_starts_a_pause() -> None:
    capacity = Capacity().rejected(50, NOW)
    assert capacity.ready_at == NOW + S
    assert capacity.free(50, NOW) == 0
    assert capacity.free(49, NOW) == 1  # a slot that came free is used during the pause


def test_after_the_pause_one_run_probes() -> None:
    capacity = Capacity().rejected(50, NOW)
    assert capacity.free(50, NOW + S) == 1
    assert capacity.free(51, NOW + S) == 0


def test_a_burst_of_rejections_is_one_pause_and_the_lowest_limit() -> None:
    capacity = Capacity()
    for left in range(199, 49, -1):
        capacity = capacity.rejected(left, NOW)
    assert (capacity.learned, capacity.ready_at) == (50, NOW + S)


def test_pauses_double_up_to_half_a_minute() -> None:
    capacity, now, pauses = Capacity(), NOW, []
    for _ in range(7):
        capacity = capacity.rejected(0, now)
        pauses.append((capacity.ready_at - now) // S)
        now = capacity.ready_at
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_the_end_of_a_run_resets_the_doubling() -> None:
    capacity = Capacity().rejected(5, NOW).rejected(5, NOW + 2 * S).ended(4)
    assert capacity.backoff == 0
    assert capacity.rejected(4, NOW + 60 * S).ready_at == NOW + 61 * S


def test_the_end_of_a_run_that_was_not_counted_allows_a_probe() -> None:
    # After a reconnection a public worker's runs are not known to be its own.
    assert Capacity().rejected(0, NOW).ended(0).free(0, NOW) == 1


def test_a_probe_that_is_claimed_raises_the_limit() -> None:
    capacity = Capacity().rejected(50, NOW).claimed(51)
    assert capacity.free(51, NOW) == 1
    assert capacity == Capacity(learned=51), "the pause is over, and the next one is short again"


def test_a_claim_within_the_limit_changes_nothing() -> None:
    capacity = Capacity().rejected(50, NOW)
    assert capacity.claimed(50) is capacity
    assert Capacity().claimed(9) == Capacity()


def test_a_declared_limit_is_not_replaced_by_a_learned_one() -> None:
    capacity = Capacity().sent_hello(50).rejected(10, NOW)
    assert capacity.free(10, NOW) == 0
    assert capacity.free(10, NOW + S) == 40
    assert capacity.ended(9).free(9, NOW) == 41


SENT, LEFT = "sent again", "left alone"


def orphaned_run(state: RunState, owner: Peer, *, overdue: bool = False, run_id: str = "r") -> RunRecord:
    deadline = NOW if overdue else NOW + 1
    return RunRecord(id=run_id, execution_id="e", state=state, owner=owner, claim_deadline=deadline)


def what_happens(run: RunRecord, *connections: ConnectionSnapshot, missing: bool = False) -> str:
    found = reassign([run], connections, NOW, {run.id} if missing else ())
    return SENT if found else LEFT


@pytest.mark.parametrize(
    ("state", "owner", "overdue", "peer", "expected"),
    [
        # It found what it ran, and did not name this: it never started it.
        (RunState.PENDING, HOST, False, HOST, SENT),
        # On another host, nothing keeps the work from being started a second time.
        (RunState.PENDING, HOST, True, OTHER_HOST, LEFT),
        (RunState.PENDING, HOST, True, PUBLIC, LEFT),
        (RunState.PENDING, POD, False, POD, SENT),
        # Its own worker may connect again, and delete the Job that keeps it from being created twice.
        (RunState.PENDING, POD, True, OTHER_POD, LEFT),
        (RunState.PENDING, Peer("w", "kubernetes"), True, Peer("w", "kubernetes"), LEFT),
        (RunState.PENDING, POD, True, Peer("x", "kubernetes", "pod/n/c/3"), LEFT),
        (RunState.PENDING, HOST, True, POD, LEFT),
        # Public: what has not been claimed for so long was not started.
        (RunState.PENDING, PUBLIC, False, PUBLIC, LEFT),
        (RunState.PENDING, PUBLIC, True, PUBLIC, SENT),
        (RunState.PENDING, PUBLIC, True, Peer("x"), LEFT),
        (RunState.PENDING, PUBLIC, True, HOST, LEFT),
        # What runs is never sent again.
        (RunState.CLAIMED, HOST, True, HOST, LEFT),
        (RunState.CLAIMED, POD, True, OTHER_POD, LEFT),
        (RunState.CLAIMED, PUBLIC, True, PUBLIC, LEFT),
        (RunState.INPROGRESS, PUBLIC, True, PUBLIC, LEFT),
    ],
)
def test_what_a_connection_can_do_for_an_orphan(
    state: RunState, owner: Peer, overdue: bool, peer: Peer, expected: str
) -> None:
    run = orphaned_run(state, owner, overdue=overdue)
    assert what_happens(run, ConnectionSnapshot(1, peer)) == expected
    assert what_happens(run) == LEFT


@pytest.mark.parametrize(
    ("owner", "peer", "expected"),
    [
        # The Job's name keeps it from being created twice.
        (POD, OTHER_POD, SENT),
        (Peer("w", "kubernetes"), Peer("w", "kubernetes"), SENT),
        (POD, Peer("x", "kubernetes", "pod/n/c/3"), LEFT),
        (HOST, OTHER_HOST, LEFT),
        (HOST, POD, LEFT),
        (PUBLIC, PUBLIC, LEFT),
    ],
)
def test_what_a_connection_can_do_for_an_orphan_whose_worker_did_not_connect_again(
    owner: Peer, peer: Peer, expected: str
) -> None:
    run = orphaned_run(RunState.PENDING, owner)
    assert what_happens(run, ConnectionSnapshot(1, peer), missing=True) == expected


def test_who_may_yet_say_hello_is_not_taken_for_a_public_worker() -> None:
    unsettled = ConnectionSnapshot(1, PUBLIC, settled=False)
    assert what_happens(orphaned_run(RunState.PENDING, PUBLIC, overdue=True), unsettled) == LEFT
    assert what_happens(orphaned_run(RunState.CLAIMED, PUBLIC), unsettled) == LEFT


def test_room_is_kept_to_the_oldest_first() -> None:
    orphaned_runs = [orphaned_run(RunState.PENDING, POD, run_id=f"r{n}") for n in range(4)]
    connections = [
        ConnectionSnapshot(1, OTHER_POD, free=1),
        ConnectionSnapshot(2, POD, free=0),
        ConnectionSnapshot(3, POD, free=2),
    ]
    assert reassign(orphaned_runs, connections, NOW, {run.id for run in orphaned_runs}) == (
        Placement("r0", 1),
        Placement("r1", 3),
        Placement("r2", 3),
    )


GRACE = 600 * S
LONGER = {"r": NOW + 6 * GRACE}


def longer_leases(
    *connections: ConnectionSnapshot, state: RunState = RunState.CLAIMED, **more: Any
) -> dict[str, int]:
    """What becomes of the lease of a run whose connection closed at ``NOW``."""
    run = replace(orphaned_run(state, PUBLIC), **{"away_since": NOW, "lease_until": NOW + GRACE, **more})
    return reconnected_leases([run], connections, GRACE)


def opened(
    at: int, peer: Peer = PUBLIC, *, free: int | None = None, settled: bool = True
) -> ConnectionSnapshot:
    return ConnectionSnapshot(1, peer, free, settled=settled, opened_at=at)


@pytest.mark.parametrize("state", [RunState.CLAIMED, RunState.INPROGRESS])
@pytest.mark.parametrize("after", [1, 0, -60 * S])
def test_a_public_worker_may_have_connected_again(state: RunState, after: int) -> None:
    """P16: a dead connection is noticed after its worker's next one was opened, at times."""
    assert longer_leases(opened(NOW + after, free=0), state=state) == LONGER
    assert longer_leases(opened(0), opened(NOW + after), state=state) == LONGER
    assert longer_leases(opened(NOW + after), opened(0), state=state) == LONGER


@pytest.mark.parametrize(
    "connection",
    [
        opened(NOW - 60 * S - 1),  # another process of the worker ID, which was there before
        opened(NOW + 1, Peer("x")),
        opened(NOW + 1, HOST),
        opened(NOW + 1, settled=False),
    ],
)
def test_the_lease_of_a_public_workers_run_stays_as_it_is(connection: ConnectionSnapshot) -> None:
    assert longer_leases(connection) == {}


@pytest.mark.parametrize(
    "more",
    [
        {"owner": HOST},
        {"owner": None},
        {"state": RunState.PENDING},
        {"cancel_requested": True},
        {"lease_until": NOW + 6 * GRACE},
        {"lease_until": None},
        {"away_since": None},
    ],
)
def test_the_lease_of_another_run_stays_as_it_is(more: dict[str, Any]) -> None:
    assert longer_leases(opened(NOW + 1), **more) == {}


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
