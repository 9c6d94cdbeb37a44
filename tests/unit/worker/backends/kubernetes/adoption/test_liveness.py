from datetime import UTC, datetime, timedelta

import pytest

from oz_agent_worker.worker.backends.kubernetes.adoption.liveness import ServerClock


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_the_servers_time_goes_on_from_what_it_said() -> None:
    clock = Clock()
    server = ServerClock(clock)
    server.update("Thu, 01 Jan 2026 12:00:00 GMT")
    assert server.known
    clock.seconds += 90
    assert server.now() == datetime(2026, 1, 1, 12, 1, 30, tzinfo=UTC)
    server.update("Thu, 01 Jan 2026 13:00:00 GMT")
    assert server.now() == datetime(2026, 1, 1, 13, tzinfo=UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_without_a_date_it_is_this_machines_time(date: str | None) -> None:
    server = ServerClock(Clock())
    server.update(date)
    assert not server.known
    assert abs(server.now() - datetime.now(UTC)) < timedelta(seconds=5)
