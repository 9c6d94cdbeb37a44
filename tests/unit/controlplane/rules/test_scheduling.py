from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from oz_agent_worker.controlplane.rules.scheduling import Assignment, Opening, Waiting, plan, requeue_delay

HOSTS = st.sampled_from(["a", "b", "c"])


@st.composite
def queues(draw: st.DrawFn) -> list[Waiting]:
    hosts = draw(st.lists(st.none() | HOSTS, max_size=40))
    return [Waiting(f"run-{i}", host) for i, host in enumerate(hosts)]


@st.composite
def fleets(draw: st.DrawFn) -> list[Opening]:
    shapes = draw(st.lists(st.tuples(HOSTS, st.none() | st.integers(0, 8), st.integers(0, 20)), max_size=8))
    return [Opening(i, worker, free, served) for i, (worker, free, served) in enumerate(shapes)]


def load(assignments: tuple[Assignment, ...]) -> Counter[int]:
    return Counter(a.connection_id for a in assignments)


@settings(deadline=None)
@given(queues(), fleets())
def test_no_run_goes_twice_and_no_connection_gets_more_than_it_can_take(
    waiting: list[Waiting], fleet: list[Opening]
) -> None:
    assignments = plan(waiting, fleet)
    assert len({a.run_id for a in assignments}) == len(assignments)
    for connection_id, count in load(assignments).items():
        free = fleet[connection_id].free
        assert free is None or count <= free


@settings(deadline=None)
@given(queues(), fleets())
def test_a_named_worker_is_respected(waiting: list[Waiting], fleet: list[Opening]) -> None:
    hosts = {run.run_id: run.worker_host for run in waiting}
    for assignment in plan(waiting, fleet):
        assert hosts[assignment.run_id] in (None, fleet[assignment.connection_id].worker_id)


@settings(deadline=None)
@given(queues(), fleets())
def test_runs_of_one_host_keep_their_order(waiting: list[Waiting], fleet: list[Opening]) -> None:
    assigned = {a.run_id for a in plan(waiting, fleet)}
    by_host: defaultdict[str | None, list[bool]] = defaultdict(list)
    for run in waiting:
        by_host[run.worker_host].append(run.run_id in assigned)
    for taken in by_host.values():
        assert taken == sorted(taken, reverse=True)  # those that wait came last


@settings(deadline=None)
@given(queues(), fleets())
def test_no_run_waits_beside_room_for_it(waiting: list[Waiting], fleet: list[Opening]) -> None:
    assignments = plan(waiting, fleet)
    used, assigned = load(assignments), {a.run_id for a in assignments}
    spare = {o.worker_id for o in fleet if o.free is None or used[o.connection_id] < o.free}
    for run in waiting:
        if run.run_id not in assigned:
            assert not spare if run.worker_host is None else run.worker_host not in spare


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 8))
def test_equal_connections_share_equally(runs: int, connections: int) -> None:
    fleet = [Opening(i, "a", None) for i in range(connections)]
    counts = load(plan([Waiting(f"run-{i}", None) for i in range(runs)], fleet))
    shares = [counts[o.connection_id] for o in fleet]
    assert max(shares) - min(shares) <= 1


def test_the_one_served_longest_ago_comes_first() -> None:
    fleet = [Opening(1, "a", 1, last_served=9), Opening(2, "a", 1, last_served=4)]
    assert plan([Waiting("r", None)], fleet) == (Assignment("r", 2),)


def test_round_robin_goes_on_where_it_stopped() -> None:
    fleet = [Opening(1, "a", None, last_served=2), Opening(2, "a", None, last_served=3)]
    runs = [Waiting(f"r{i}", None) for i in range(3)]
    assert [a.connection_id for a in plan(runs, fleet)] == [1, 2, 1]


def test_delays_double_up_to_a_minute() -> None:
    assert [requeue_delay(n) // 1_000_000 for n in range(9)] == [1, 1, 2, 4, 8, 16, 32, 60, 60]
    assert requeue_delay(10**6) == 60_000_000
