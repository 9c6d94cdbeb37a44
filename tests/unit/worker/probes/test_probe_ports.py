"""Which servers are started, for which ports."""

import pytest

from oz_agent_worker.worker.probes.probe_ports import Plan, plans
from oz_agent_worker.worker.probes.server import Endpoint

EVERYWHERE = "0.0.0.0"


@pytest.mark.parametrize(
    ("probes", "prometheus", "expected"),
    [
        (None, None, []),
        (Endpoint(EVERYWHERE, 8081), None, [Plan((EVERYWHERE,), 8081, probes=True, metrics=False)]),
        (None, Endpoint("localhost", 9464), [Plan(("localhost",), 9464, probes=False, metrics=True)]),
        (
            Endpoint(EVERYWHERE, 8081),
            Endpoint("localhost", 9464),
            [
                Plan((EVERYWHERE,), 8081, probes=True, metrics=True),
                Plan(("localhost",), 9464, probes=False, metrics=True),
            ],
        ),
        (
            Endpoint(EVERYWHERE, 9464),
            Endpoint("localhost", 9464),
            [Plan((EVERYWHERE,), 9464, probes=True, metrics=True)],
        ),
        (
            Endpoint("::", 9464),
            Endpoint(EVERYWHERE, 9464),
            [Plan(("::", EVERYWHERE), 9464, probes=True, metrics=True)],
        ),
        (
            Endpoint("192.0.2.1", 9464),
            Endpoint("localhost", 9464),
            [Plan(("192.0.2.1", "localhost"), 9464, probes=True, metrics=True)],
        ),
        (
            Endpoint("localhost", 9464),
            Endpoint("localhost", 9464),
            [Plan(("localhost",), 9464, probes=True, metrics=True)],
        ),
    ],
)
def test_one_server_a_port(
    probes: Endpoint | None, prometheus: Endpoint | None, expected: list[Plan]
) -> None:
    assert list(plans(probes, prometheus)) == expected
