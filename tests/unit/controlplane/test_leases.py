from typing import Any

import pytest

from oz_agent_worker.controlplane.head import Head
from oz_agent_worker.controlplane.leases import LeaseEnd, lease_end
from oz_agent_worker.controlplane.states import IN_FLIGHT, RunState
from oz_agent_worker.controlplane.times import micros

NOW = micros(10_000)


def end_of(state: RunState = RunState.CLAIMED, **more: Any) -> LeaseEnd:
    values: dict[str, Any] = {"worker_id": "w", "away_since": NOW - micros(600), "lease_until": NOW}
    return lease_end(Head(id="r", execution_id="e", state=state, **values | more), NOW)


@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
def test_a_run_whose_worker_is_lost(state: RunState) -> None:
    end = end_of(state)
    assert (end.state, end.error_code, end.retryable) == (RunState.ERROR, "worker_lost", True)
    assert end.message.startswith("Worker w was away, or without the run, for 10 min. ")


def test_one_that_is_safe_to_retry_is_queued_again() -> None:
    end = end_of(safe_to_retry=True)
    assert (end.state, end.error_code, end.retryable) == (RunState.QUEUED, None, None)
    assert "safe to retry" in end.message


@pytest.mark.parametrize("safe", [True, False])
def test_one_that_shall_be_cancelled_is(safe: bool) -> None:
    end = end_of(cancel_requested=True, safe_to_retry=safe)
    assert (end.state, end.error_code) == (RunState.CANCELLED, None)
    assert "for 10 min" in end.message
