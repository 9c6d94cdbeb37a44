"""When a watch counts as alive."""

import pytest

from oz_agent_worker.worker.events import WatchStatus


@pytest.mark.parametrize(
    ("running", "idle_for", "alive"),
    [(True, 0.0, True), (True, 100.0, True), (True, 100.1, False), (False, 0.0, False)],
)
def test_it_runs_and_keeps_within_its_limit(running: bool, idle_for: float, alive: bool) -> None:
    vitals = WatchStatus("jobs", running=running, unheard_for=1e6, idle_for=idle_for, idle_limit=100.0)
    assert vitals.alive is alive
