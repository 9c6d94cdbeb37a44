"""Runs as the tests of the control plane need them."""

from dataclasses import replace
from typing import Any

from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.times import parse_time

CREATED = parse_time("2026-01-02T03:04:05Z")

RUN = Run(
    seq=1,
    id="11111111-1111-4111-8111-111111111111",
    execution_id="22222222-2222-4222-8222-222222222222",
    state=RunState.QUEUED,
    title="Mend the build",
    prompt="Mend the build, please",
    source="API",
    creator_id="33333333-3333-4333-8333-333333333333",
    creator_name="alice",
    created_at=CREATED,
    updated_at=CREATED,
    started_at=None,
    ended_at=None,
    away_since=None,
    lease_until=None,
    cancel_requested=False,
    cancelled_by=None,
    message=None,
    error_code=None,
    retryable=None,
    exit_code=None,
)


def a_run(**changes: Any) -> Run:
    """The sample with changes."""
    return replace(RUN, **changes)
