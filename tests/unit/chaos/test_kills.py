import pytest

from tests.chaos.kills import KillLedger, figures, percentile


def test_a_kill_is_recovered_from_once_a_worker_is_back_and_the_run_went_on() -> None:
    ledger = KillLedger()
    ledger.add("claim-sent", "worker-001", 10.0, "run")
    ledger.connected(12.0)
    assert ledger.kills[0].recovery == 2.0
    ledger.heard_of("run", "worker-001", 12.5)
    ledger.heard_of("another", "worker-002", 12.5)
    assert ledger.kills[0].recovery == 2.0, "neither the victim's last words nor another run's count"
    ledger.heard_of("run", "worker-002", 13.0)
    ledger.heard_of("run", "worker-002", 15.0)
    assert ledger.kills[0].recovery == 3.0


def test_a_ledger_knows_whether_anything_is_not_recovered_from() -> None:
    ledger = KillLedger()
    ledger.add("claim-sent", "worker-001", 10.0, "run")
    before = ledger.recovering
    ledger.connected(12.0)
    assert (before, ledger.recovering) == (True, False)


def test_log_lines_before_the_kill_do_not_count() -> None:
    ledger = KillLedger()
    ledger.add("claim-sent", "worker-001", 10.0, "run")
    ledger.connected(9.0)
    ledger.heard_of("run", "control-plane-001", 9.0)
    assert ledger.kills[0].recovery is None


def test_figures_are_by_step() -> None:
    ledger = KillLedger()
    for t in (1.0, 2.0):
        ledger.add("hello-sent", "worker-001", t, "")
    ledger.connected(4.0)
    found = figures(ledger.kills)["hello-sent"]
    assert (found.kills, found.p50, found.p99) == (2, 3.0, 3.0)


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [([], 0.5, 0.0), ([3.0], 0.99, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0), ([*range(1, 101)], 0.99, 100)],
)
def test_percentiles(values: list[float], q: float, expected: float) -> None:
    assert percentile(values, q) == expected
