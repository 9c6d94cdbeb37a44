from oz_agent_worker.controlplane.capacity import Capacity
from oz_agent_worker.controlplane.dispatch import Opening
from oz_agent_worker.controlplane.hub import Connection, Hub
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.core.wire import Ack, TaskCancellation

NOW = micros(1000)


def a_hub() -> tuple[Hub, list[None]]:
    woken: list[None] = []
    return Hub(lambda: woken.append(None)), woken


def ready(hub: Hub, worker_id: str, limit: int = 0) -> Connection:
    connection = hub.connect(worker_id, "key", NOW)
    connection.capacity = Capacity().greeted(limit)
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
    hub.disconnect(connection)
    assert hub.holder("r") is None
    hub.bind("r", connection)  # a frame of it that was still being applied
    assert hub.holder("r") is None
    assert hub.openings(NOW) == []


def test_a_cancellation_goes_to_every_connection_of_the_worker_alone() -> None:
    hub, _ = a_hub()
    one, two, other = ready(hub, "w"), ready(hub, "w"), ready(hub, "x")
    assert hub.cancel("r", "w")
    assert one.outgoing.get_nowait() == two.outgoing.get_nowait() == TaskCancellation(task_id="r")
    assert other.outgoing.empty()
    assert not hub.cancel("r", "absent")


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
