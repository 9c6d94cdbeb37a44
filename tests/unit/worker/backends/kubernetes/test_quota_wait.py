"""A task waits for room in a quota of Jobs as it does in one of Pods (K11)."""

import asyncio
import logging

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.base import LaunchError
from oz_agent_worker.worker.backends.kubernetes.job_creation import CreatedJob, NoRoomError
from oz_agent_worker.worker.backends.kubernetes.quota_wait import QuotaWait, created_when_there_is_room
from tests.virtual_time import in_virtual_time

from .samples import job_view
from .test_job_creation import cancel_after, elapsed, plan

QUOTA = NoRoomError("a quota has no room for the Job (exceeded quota: small, limited: count/jobs.batch=1)")


class Room:
    """A quota that has room after so many seconds."""

    def __init__(self, after: float) -> None:
        self.after = after
        self.attempts = 0

    async def __call__(self) -> CreatedJob:
        self.attempts += 1
        if elapsed() < self.after:
            raise QUOTA
        return CreatedJob(job_view(plan().job), 0.0, adopted=False)


async def wait(
    room: Room,
    *kept: str,
    timeout: float = 30.0,
    ttl: float | None = 600,
    cancelled: asyncio.Event | None = None,
) -> CreatedJob:
    settings = QuotaWait(namespace="agents", timeout=timeout, kept=lambda: kept, ttl=ttl)
    return await created_when_there_is_room(room, settings, cancelled or asyncio.Event())


@in_virtual_time
async def test_a_task_waits_for_room(caplog: pytest.LogCaptureFixture) -> None:
    """K11: said once, and no request more than every few seconds."""
    room = Room(25.0)
    await wait(room)
    assert elapsed() < 40.0
    assert room.attempts < 25
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "exceeded quota: small" in warnings[0]


@in_virtual_time
async def test_without_room_in_time_the_task_fails_as_it_does_for_its_pod() -> None:
    """K11: after unschedulable_timeout, with the cluster's words."""
    with pytest.raises(LaunchError, match="had none in 30 s") as caught:
        await wait(Room(1000.0))
    assert caught.value.outcome is not None
    assert caught.value.outcome.reason is FailureReason.JOB_CREATE
    assert caught.value.outcome.message.startswith("A quota has no room for the Job (exceeded quota: small,")
    assert 30.0 <= elapsed() < 46.0


@pytest.mark.parametrize("timeout", [0.0, 3600.0])
@in_virtual_time
async def test_a_long_wait_goes_on_in_the_queue(timeout: float) -> None:
    """K11: the control plane would take a worker that does not answer for lost."""
    with pytest.raises(LaunchError, match="exceeded quota: small") as caught:
        await wait(Room(1e6), timeout=timeout)
    assert caught.value.outcome is None
    assert 300.0 <= elapsed() < 316.0


@pytest.mark.parametrize(
    ("kept", "ttl", "said"),
    [
        ((), 600, "Raise the quota, or backend.kubernetes.unschedulable_timeout"),
        (
            ("b", "a"),
            600,
            "that have ended count too: a, b (each goes 600 s after its end)",
        ),
        (("a",), None, "count too: a (no TTL removes them)"),
        (tuple("abcdefg"), 60, "count too: a, b, c, d, e and 2 more (each goes 60 s"),
    ],
    ids=["none", "two", "no cleanup", "many"],
)
@in_virtual_time
async def test_the_message_names_the_jobs_that_hold_the_quota(
    kept: tuple[str, ...], ttl: float | None, said: str
) -> None:
    """K11: a kept failed Job counts until its TTL."""
    with pytest.raises(LaunchError) as caught:
        await wait(Room(1000.0), *kept, ttl=ttl)
    assert caught.value.outcome is not None
    assert said in caught.value.outcome.message
    assert ("kubectl -n agents delete job NAME" in caught.value.outcome.message) == bool(kept)


@in_virtual_time
async def test_a_cancellation_ends_the_wait_at_once() -> None:
    """K11: what is not wanted any more does not wait."""
    with pytest.raises(LaunchError, match="cancelled while it waited for room") as caught:
        await wait(Room(1000.0), timeout=0.0, cancelled=cancel_after(17.0))
    assert caught.value.outcome is None
    assert elapsed() == 17.0


@in_virtual_time
async def test_another_refusal_is_passed_on() -> None:
    """K11: only a quota is waited for."""

    async def refuse() -> CreatedJob:
        raise LaunchError("no")

    settings = QuotaWait(namespace="agents", timeout=30.0, kept=tuple, ttl=None)
    with pytest.raises(LaunchError, match=r"^no$"):
        await created_when_there_is_room(refuse, settings, asyncio.Event())
