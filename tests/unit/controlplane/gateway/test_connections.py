from oz_agent_worker.controlplane.gateway.connections import Connections, Disconnected, WorkerConnection
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.scheduling import Capacity, ConnectionSnapshot
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.protocol.frames import Ack, TaskAssignment, TaskCancellation

NOW = micros(1000)


def ready(connections: Connections, worker_id: str, limit: int = 0) -> WorkerConnection:
    connection = connections.connect(worker_id, "key", NOW)
    connection.capacity = Capacity().sent_hello(limit)
    return connection


def free(connections: Connections, now: int = NOW) -> list[int | None]:
    return [c.free for c in connections.snapshots(now) if c.free != 0]


def test_a_connection_is_given_nothing_before_it_could_say_hello() -> None:
    connections = Connections()
    connections.connect("w", "key", NOW)
    assert free(connections) == []
    later = connections.next_ready(NOW)
    assert later is not None
    assert free(connections, later) == [None]


def test_runs_in_flight_count_against_the_limit() -> None:
    connections = Connections()
    connection = ready(connections, "w", 2)
    connections.bind("r1", connection)
    assert free(connections) == [1]
    connections.bind("r2", connection)
    assert free(connections) == []
    assert connections.release("r1") is connection
    assert free(connections) == [1]


def test_the_last_to_claim_a_run_holds_it() -> None:
    connections = Connections()
    one, two = ready(connections, "w"), ready(connections, "w")
    connections.bind("r", one)
    connections.bind("r", two)
    assert connections.holder("r") is two
    assert (one.runs, two.runs) == (set(), {"r"})


def test_a_connection_that_is_gone_holds_nothing() -> None:
    connections = Connections()
    connection = ready(connections, "w")
    connections.bind("r", connection)
    assert connections.disconnect(connection, NOW) == Disconnected(runs=("r",))
    assert connections.disconnect(connection, NOW) == Disconnected()
    assert connections.holder("r") is None
    assert not connections.bind("r", connection)  # a frame of it that was still being applied
    assert connections.holder("r") is None
    assert free(connections) == []


def test_a_connection_that_is_gone_takes_no_run_from_another() -> None:
    connections = Connections()
    one, two = ready(connections, "w"), ready(connections, "w")
    connections.disconnect(one, NOW)
    connections.bind("r", two)
    assert not connections.bind("r", one)
    assert connections.holder("r") is two


def test_a_disconnect_lists_unsent_assignments_of_its_runs() -> None:
    connections = Connections()
    connection = ready(connections, "w")
    for run_id in ("sent", "unsent"):
        connections.bind(run_id, connection)
        connection.send(TaskAssignment(task_id=run_id, execution_id="e"))
    connection.outgoing.get_nowait()
    connection.send(Ack(ack_id="1"))
    connection.send(TaskAssignment(task_id="another's", execution_id="e"))
    assert connections.disconnect(connection, NOW) == Disconnected(
        runs=("sent", "unsent"), unsent=(ExecutionRef("unsent", "e"),)
    )


def test_of_one_instance_the_latest_connection_lives() -> None:
    connections = Connections()
    me, other = Peer("w", "direct", "host/a"), Peer("w", "direct", "host/b")
    one, two, three, four = (ready(connections, "w") for _ in range(4))
    for connection, peer in ((one, me), (two, other), (three, me)):
        connection.accept_hello(peer, 0)
    assert connections.superseded(three) == [one]
    assert connections.superseded(one) == connections.superseded(two) == connections.superseded(four) == []


def test_a_connection_is_settled_once_it_sent_hello_or_had_the_time_to() -> None:
    connections = Connections()
    connection = connections.connect("w", "key", NOW)
    assert [s.settled for s in connections.snapshots(NOW)] == [False]
    assert [s.settled for s in connections.snapshots(NOW + micros(0.5))] == [True]
    connection.accept_hello(Peer("w", "direct", "i"), 3)
    assert connections.snapshots(NOW) == [
        ConnectionSnapshot(1, Peer("w", "direct", "i"), free=3, opened_at=NOW)
    ]


def test_the_runs_of_a_worker_that_said_goodbye_are_known_until_somebody_has_them() -> None:
    connections = Connections()
    public, other = ready(connections, "w"), ready(connections, "w")
    other.accept_hello(Peer("w", "direct", "i"), 0)
    for run_id, connection in {"a": public, "b": public, "c": other}.items():
        connections.bind(run_id, connection)
    connections.disconnect(other, NOW, departed=True)
    connections.disconnect(public, NOW + 1, departed=True)
    assert [connections.has_departed(run_id) for run_id in "abc"] == [True, True, True]
    assert [connections.lost_at(run_id) for run_id in "abc"] == [NOW + 1, NOW + 1, NOW]
    connections.bind("a", ready(connections, "w"))
    connections.release("b")
    assert [connections.has_departed(run_id) for run_id in "ab"] == [False, False]
    assert [connections.lost_at(run_id) for run_id in "ab"] == [None, None]


def test_a_connection_that_broke_says_nothing_of_its_process() -> None:
    connections = Connections()
    public = ready(connections, "w")
    connections.bind("a", public)
    connections.disconnect(public, NOW)
    assert not connections.has_departed("a")


def test_another_open_connection_may_have_a_run() -> None:
    connections = Connections()
    one, two = ready(connections, "w"), ready(connections, "w")
    assert not connections.is_elsewhere("r", two)
    connections.bind("r", one)
    assert connections.is_elsewhere("r", two)
    assert not connections.is_elsewhere("r", one)


def test_a_cancellation_goes_to_every_connection_of_the_worker_alone() -> None:
    connections = Connections()
    one, two, other = ready(connections, "w"), ready(connections, "w"), ready(connections, "x")
    two.accept_hello(Peer("w", "direct"), 0)
    assert connections.cancel(ExecutionRef("r", "e"), "w")
    assert one.outgoing.get_nowait() == TaskCancellation(task_id="r")
    assert two.outgoing.get_nowait() == TaskCancellation(task_id="r", execution_id="e")
    assert other.outgoing.empty()
    assert not connections.cancel(ExecutionRef("r", "e"), "absent")


def test_a_worker_that_reads_too_slowly_is_given_no_more() -> None:
    connections = Connections()
    connection = ready(connections, "w")
    for number in range(256):
        connection.send(Ack(ack_id=str(number)))
    assert not connection.has_room
    assert free(connections) == []


def test_served_connections_go_to_the_end_of_the_line() -> None:
    connections = Connections()
    one, two = ready(connections, "w"), ready(connections, "w")
    connections.served(one)
    connections.served(two)
    connections.served(one)
    assert two.last_served < one.last_served


def test_a_revoked_key_closes_its_connections_alone() -> None:
    connections = Connections()
    one = connections.connect("w", "key-1", NOW)
    two = connections.connect("w", "key-2", NOW)
    connections.drop_key("key-1")
    assert one.closing.is_set()
    assert not two.closing.is_set()
