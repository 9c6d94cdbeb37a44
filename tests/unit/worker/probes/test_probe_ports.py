"""Which servers are started, for which ports."""

import pytest

from oz_agent_worker.worker.probes.probe_ports import ListenPlan, listen_plans
from oz_agent_worker.worker.probes.server import Endpoint

EVERYWHERE = "0.0.0.0"


@pytest.mark.parametrize(
    ("probes", "prometheus", "expected"),
    [
        (None, None, []),
        (Endpoint(EVERYWHERE, 8081), None, [ListenPlan((EVERYWHERE,), 8081, probes=True, metrics=False)]),
        (None, Endpoint("localhost", 9464), [ListenPlan(("localhost",), 9464, probes=False, metrics=True)]),
        (
            Endpoint(EVERYWHERE, 8081),
            Endpoint("localhost", 9464),
            [
                ListenPlan((EVERYWHERE,), 8081, probes=True, metrics=True),
                ListenPlan(("localhost",), 9464, probes=False, metrics=True),
            ],
        ),
        (
            Endpoint(EVERYWHERE, 9464),
            Endpoint("localhost", 9464),
            [ListenPlan((EVERYWHERE,), 9464, probes=True, metrics=True)],
        ),
        (
            Endpoint("::", 9464),
            Endpoint(EVERYWHERE, 9464),
            [ListenPlan(("::", EVERYWHERE), 9464, probes=True, metrics=True)],
        ),
        (
            Endpoint("192.0.2.1", 9464),
            Endpoint("localhost", 9464),
            [ListenPlan(("192.0.2.1", "localhost"), 9464, probes=True, metrics=True)],
        ),
        (
            Endpoint("localhost", 9464),
            Endpoint("localhost", 9464),
            [ListenPlan(("localhost",), 9464, probes=True, metrics=True)],
        ),
    ],
)
def test_one_server_a_port(
    probes: Endpoint | None, prometheus: Endpoint | None, expected: list[ListenPlan]
) -> None:
    assert list(listen_plans(probes, prometheus)) == expected
