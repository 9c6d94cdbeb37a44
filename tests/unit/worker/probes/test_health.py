"""What the probes answer, and that the body says what is wrong."""

import json
from typing import Any

import pytest

from oz_agent_worker.worker.events import WatchStatus
from oz_agent_worker.worker.probes.health import Health
from oz_agent_worker.worker.probes.server import Response

WELL = WatchStatus("jobs", running=True, silent_for=31.4, idle_for=31.4, idle_limit=400.0)
DEAF = WatchStatus("pods", running=True, silent_for=9000.0, idle_for=5.0, idle_limit=400.0)
STUCK = WatchStatus("pods", running=True, silent_for=500.0, idle_for=500.0, idle_limit=400.0)
SHUT_OUT = WatchStatus("jobs", True, 100.0, 1.0, 400.0, failing_for=60.0, problem="ca.crt is old")
BRIEFLY = WatchStatus("jobs", True, 100.0, 1.0, 400.0, failing_for=59.9, problem="ca.crt is old")
ENDED = WatchStatus("pods", running=False, silent_for=1.0, idle_for=1.0, idle_limit=400.0)


def body(response: Response) -> dict[str, Any]:
    assert response.content_type == "application/json"
    document: dict[str, Any] = json.loads(response.body)
    return document


def health(*watches: WatchStatus, connected: bool = True) -> Health:
    return Health(connected=lambda: connected, watches=lambda: watches)


@pytest.mark.parametrize("watches", [(), (WELL,), (WELL, DEAF), (SHUT_OUT,)])
def test_a_process_that_lives(watches: tuple[WatchStatus, ...]) -> None:
    response = health(*watches).healthz()
    assert (response.status, body(response)["status"], body(response)["failing"]) == (200, "ok", [])


@pytest.mark.parametrize(
    ("watch", "failing"),
    [
        (STUCK, "watch_pods: did nothing for 500 s (its limit is 400 s)"),
        (ENDED, "watch_pods: its task has ended"),
    ],
)
def test_a_watch_that_does_not_do_what_it_should(watch: WatchStatus, failing: str) -> None:
    response = health(WELL, watch).healthz()
    assert (response.status, body(response)["status"]) == (503, "unavailable")
    assert body(response)["failing"] == [failing]
    assert {"name": "watch_jobs", "ok": True, "detail": "last received 31 s ago"} in body(response)["checks"]


@pytest.mark.parametrize(
    ("preflight_passed", "connected", "stopping", "failing"),
    [
        (True, True, False, []),
        (False, True, False, ["preflight: the backend is still starting"]),
        (True, False, False, ["connection: not connected to the control plane"]),
        (True, True, True, ["accepting: shutting down"]),
    ],
)
def test_readiness(preflight_passed: bool, connected: bool, stopping: bool, failing: list[str]) -> None:
    examined = health(STUCK, connected=connected)
    examined.preflight_passed, examined.stopping = preflight_passed, stopping
    response = examined.readyz()
    assert response.status == (503 if failing else 200)
    assert body(response)["failing"] == failing


@pytest.mark.parametrize(
    ("watch", "failing"),
    [(WELL, []), (BRIEFLY, []), (SHUT_OUT, ["watch_jobs: has failed for 60 s: ca.crt is old"])],
)
def test_k1_a_worker_that_is_shut_out_of_its_cluster_is_not_ready(
    watch: WatchStatus, failing: list[str]
) -> None:
    examined = health(watch)
    examined.preflight_passed = True
    response = examined.readyz()
    assert (response.status, body(response)["failing"]) == (503 if failing else 200, failing)
