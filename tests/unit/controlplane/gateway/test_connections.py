from oz_agent_worker.controlplane.gateway.connections import Connection, Connections, Left
from oz_agent_worker.controlplane.rules.capacity import Capacity
from oz_agent_worker.controlplane.rules.peer import Peer
from oz_agent_worker.controlplane.rules.reassignment import Station
from oz_agent_worker.controlplane.rules.scheduling import Opening
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.protocol.frames import Ack, TaskAssignment, TaskCancellation

NOW = micros(1000)


def a_hub() -> tuple[Connections, list[None]]:
    woken: list[None] = []
    return Connections(lambda: woken.append(None)), woken


def ready(hub: Connections, worker_id: str, limit: int = 0) -> Connection:
    connection = hub.connect(worker_id, "key", NOW)
    connection.capacity = Capacity().sent_hello(limit)
    return connection


def test_a_connection_is_given_nothing_before_it_could_say_hello() -> None:
    hub, woken = a_hub()
    hub.connect("w", "key", NOW)
    assert woken
    assert hub.openings(NOW) == []
    later = hub.next_ready(NOW)
    assert later is not None
    assert hub.openings(later) == [Opening(1, "w", None, 0)]


def test_runs_in_flight_count_against_the_limit() -> None:
    hub, _ = a_hub()
    connection = ready(hub, "w", 2)
    hub.bind("r1", connection)
    assert hub.openings(NOW) == [Opening(1, "w", 1, 0)]
    hub.bind("r2", connection)
    assert hub.openings(NOW) == []
    assert hub.release("r1") is connection
    assert hub.openings(NOW) == [Opening(1, "w", 1, 0)]


def test_the_last_to_claim_a_run_holds_it() -> None:
    hub, _ = a_hub()
    one, two = ready(hub, "w"), ready(hub, "w")
    hub.bind("r", one)
    hub.bind("r", two)
    assert hub.holder("r") is two
    assert (one.runs, two.runs) == (set(), {"r"})


def test_a_connection_that_is_gone_holds_nothing() -> None:
    hub, _ = a_hub()
    connection = ready(hub, "w")
    hub.bind("r", connection)
    assert hub.disconnect(connection) == Left(runs=("r",))
    assert hub.disconnect(connection) == Left()
    assert hub.holder("r") is None
    assert not hub.bind("r", connection)  # a frame of it that was still being applied
    assert hub.holder("r") is None
    assert hub.openings(NOW) == []


def test_a_connection_that_is_gone_takes_no_run_from_another() -> None:
    hub, _ = a_hub()
    one, two = ready(hub, "w"), ready(hub, "w")
    hub.disconnect(one)
    hub.bind("r", two)
    assert not hub.bind("r", one)
    assert hub.holder("r") is two


def test_an_assignment_that_was_never_sent_is_told_from_one_that_was() -> None:
    hub, _ = a_hub()
    connection = ready(hub, "w")
    for run_id in ("sent", "unsent"):
        hub.bind(run_id, connection)
        connection.send(TaskAssignment(task_id=run_id, execution_id="e"))
    connection.outgoing.get_nowait()
    connection.send(Ack(ack_id="1"))
    assert hub.disconnect(connection) == Left(runs=("sent",), unsent=(("unsent", "e"),))


def test_of_one_instance_the_latest_connection_lives() -> None:
    hub, _ = a_hub()
    me, other = Peer("w", "direct", "host/a"), Peer("w", "direct", "host/b")
    one, two, three, four = (ready(hub, "w") for _ in range(4))
    for connection, peer in ((one, me), (two, other), (three, me)):
        connection.greet(peer, 0)
    assert hub.superseded(three) == [one]
    assert hub.superseded(one) == hub.superseded(two) == hub.superseded(four) == []


def test_a_connection_is_settled_once_it_said_hello_or_had_the_time_to() -> None:
    hub, _ = a_hub()
    connection = hub.connect("w", "key", NOW)
    assert [s.settled for s in hub.stations(NOW)] == [False]
    assert [s.settled for s in hub.stations(NOW + micros(0.5))] == [True]
    connection.greet(Peer("w", "direct", "i"), 3)
    assert hub.stations(NOW) == [Station(1, Peer("w", "direct", "i"), settled=True, free=3)]


def test_another_open_connection_may_have_a_run() -> None:
    hub, _ = a_hub()
    one, two = ready(hub, "w"), ready(hub, "w")
    assert not hub.is_elsewhere("r", two)
    hub.bind("r", one)
    assert hub.is_elsewhere("r", two)
    assert not hub.is_elsewhere("r", one)


def test_a_cancellation_goes_to_every_connection_of_the_worker_alone() -> None:
    hub, _ = a_hub()
    one, two, other = ready(hub, "w"), ready(hub, "w"), ready(hub, "x")
    two.greet(Peer("w", "direct"), 0)
    assert hub.cancel("r", "w", "e")
    assert one.outgoing.get_nowait() == TaskCancellation(task_id="r")
    assert two.outgoing.get_nowait() == TaskCancellation(task_id="r", execution_id="e")
    assert other.outgoing.empty()
    assert not hub.cancel("r", "absent", "e")


def test_a_worker_that_reads_too_slowly_is_given_no_more() -> None:
    hub, _ = a_hub()
    connection = ready(hub, "w")
    for number in range(256):
        connection.send(Ack(ack_id=str(number)))
    assert not connection.has_room
    assert hub.openings(NOW) == []


def test_served_connections_go_to_the_end_of_the_line() -> None:
    hub, _ = a_hub()
    one, two = ready(hub, "w"), ready(hub, "w")
    hub.served(one)
    hub.served(two)
    hub.served(one)
    assert two.last_served < one.last_served


def test_a_revoked_key_closes_its_connections_alone() -> None:
    hub, _ = a_hub()
    one = hub.connect("w", "key-1", NOW)
    two = hub.connect("w", "key-2", NOW)
    hub.drop_key("key-1")
    assert one.closing.is_set()
    assert not two.closing.is_set()
