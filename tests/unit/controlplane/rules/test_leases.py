from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.controlplane.rules.leases import (
    Lease,
    extended_lease,
    lease_end,
    next_checkpoint,
    reconnected_lease,
    resumed_lease,
    was_paused,
)
from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, RunOutcome, RunState
from oz_agent_worker.controlplane.times import micros

NOW = micros(10_000)
GRACE = micros(600)
TO_RECONNECT = micros(75)
MOST = 3


def end_of(state: RunState = RunState.CLAIMED, **more: Any) -> RunOutcome:
    values: dict[str, Any] = {
        "owner": Peer("w", "direct", "i"),
        "away_since": NOW - GRACE,
        "lease_until": NOW,
    }
    return lease_end(RunRecord(id="r", execution_id="e", state=state, **values | more), NOW, MOST)


@pytest.mark.parametrize("state", sorted(IN_FLIGHT - {RunState.PENDING}))
def test_a_run_whose_worker_is_lost(state: RunState) -> None:
    end = end_of(state)
    assert (end.state, end.error_code, end.retryable) == (RunState.ERROR, "worker_lost", True)
    assert end.message.startswith("Worker w was away, or without the run, for 10 min. ")


@pytest.mark.parametrize("state", sorted(IN_FLIGHT - {RunState.PENDING}))
def test_a_run_of_a_public_worker_that_says_no_more(state: RunState) -> None:
    end = end_of(state, owner=Peer("w"))
    assert (end.state, end.error_code, end.retryable) == (RunState.ERROR, "worker_lost", True)
    assert end.message.startswith(
        "Worker w sent nothing about the run for 10 min after its connection closed. "
    )


def test_a_cancellation_that_a_public_worker_does_not_answer() -> None:
    end = end_of(owner=Peer("w"), cancel_requested=True, cancelled_by="alice", safe_to_retry=True)
    assert (end.state, end.error_code) == (RunState.CANCELLED, None)
    assert end.message == (
        'Cancelled with the API key "alice"; worker w did not confirm within 10 min that the task stopped.'
    )


def test_a_run_that_was_never_answered() -> None:
    end = end_of(RunState.PENDING)
    assert (end.state, end.error_code, end.retryable) == (RunState.ERROR, "worker_lost", True)
    assert end.message.startswith("Worker w was sent the run and did not answer for 10 min. ")


@pytest.mark.parametrize("retries", range(MOST - 1))
def test_one_that_is_safe_to_retry_is_queued_again(retries: int) -> None:
    end = end_of(safe_to_retry=True, retries=retries)
    assert (end.state, end.error_code, end.retryable) == (RunState.QUEUED, None, None)
    assert "safe to retry" in end.message


def test_one_that_is_safe_to_retry_is_not_started_for_ever() -> None:
    end = end_of(safe_to_retry=True, retries=MOST - 1)
    assert (end.state, end.error_code, end.retryable) == (RunState.ERROR, "worker_lost", True)
    assert "started 3 times, the most that is allowed" in end.message


def test_it_may_be_started_only_once() -> None:
    head = RunRecord(id="r", execution_id="e", state=RunState.CLAIMED, owner=Peer("w"), safe_to_retry=True)
    end = lease_end(head, NOW, 1)
    assert end.state is RunState.ERROR
    assert "started once, the most" in end.message


@pytest.mark.parametrize("safe", [True, False])
def test_one_that_shall_be_cancelled_is(safe: bool) -> None:
    end = end_of(cancel_requested=True, cancelled_by="alice", safe_to_retry=safe)
    assert (end.state, end.error_code) == (RunState.CANCELLED, None)
    assert end.message == (
        'Cancelled with the API key "alice"; '
        "worker w was away, or without the run, for 10 min, and did not confirm it."
    )


# ------------------------------------------------------------------------- across restarts


def test_a_lease_has_left_what_it_had_when_somebody_listened() -> None:
    away_since, checkpoint = NOW - micros(5000), NOW - micros(4900)
    resumed = resumed_lease(Lease(away_since, away_since + GRACE), checkpoint, NOW, GRACE)
    assert resumed == Lease(NOW - micros(100), NOW + micros(500))


def test_a_lease_that_began_after_the_checkpoint_has_all_of_it_left() -> None:
    away_since = NOW - micros(3600)
    for checkpoint in (None, away_since - 1):
        resumed = resumed_lease(Lease(away_since, away_since + GRACE), checkpoint, NOW, GRACE)
        assert resumed == Lease(NOW, NOW + GRACE)


@pytest.mark.parametrize("left", [-micros(3600), 0, TO_RECONNECT])
def test_a_worker_has_the_time_to_reconnect(left: int) -> None:
    resumed = resumed_lease(Lease(NOW - GRACE, NOW + left), NOW, NOW, GRACE)
    assert resumed == Lease(NOW - GRACE, NOW + TO_RECONNECT)


def test_it_has_no_more_than_a_quarter_of_the_grace_for_that() -> None:
    assert resumed_lease(Lease(NOW - GRACE, NOW), NOW, NOW, micros(20)).until == NOW + micros(5)


def test_a_grace_that_was_shortened_counts() -> None:
    assert resumed_lease(Lease(NOW - 1, NOW + GRACE), NOW, NOW, micros(60)).until == NOW + micros(60)


def test_a_clock_that_was_set_back_takes_nothing() -> None:
    ahead = NOW + micros(1000)
    resumed = resumed_lease(Lease(ahead, ahead + GRACE), ahead, NOW, GRACE)
    assert resumed == Lease(ahead, NOW + GRACE)


def test_a_checkpoint_that_is_yet_to_come_takes_nothing() -> None:
    """A clock went ahead, and was corrected, while the lease ran."""
    lease = Lease(NOW - micros(100), NOW + micros(500))
    assert resumed_lease(lease, NOW + micros(1000), NOW, GRACE) == lease


def test_a_slow_control_plane_is_not_a_stalled_one() -> None:
    assert not was_paused(micros(10))
    assert was_paused(micros(10) + 1)


@given(
    st.lists(
        st.tuples(st.integers(TO_RECONNECT + 2, 2 * GRACE), st.integers(0, 100 * GRACE)),
        min_size=20,
        max_size=20,
    )
)
def test_restarts_never_keep_a_lease_alive(lives: list[tuple[int, int]]) -> None:
    """Whatever the lives (microseconds up, then down), a lease ends within listening time of its own length.

    To that comes what a crash takes back: half of a life at most, as long as it lasts for the reconnect.
    """
    now, checkpoint, listened = NOW, NOW, 0
    lease = Lease(now, now + GRACE)
    for up, down in lives:
        started = now
        if started + up >= lease.until:
            assert listened <= 2 * GRACE + TO_RECONNECT
            return
        while (due := next_checkpoint(started, checkpoint, GRACE)) <= started + up:
            checkpoint = due
        listened += up
        now += up + down
        lease = resumed_lease(lease, checkpoint, now, GRACE)
        checkpoint = now
    raise AssertionError("the lease outlived every control plane")


def test_a_crash_takes_back_half_of_a_life_or_a_quarter_of_the_grace() -> None:
    taken = [NOW]
    while len(taken) < 20:
        taken.append(next_checkpoint(NOW, taken[-1], GRACE))
    for last, following in pairwise(taken):
        assert following - last <= max(micros(1), min(last - NOW, GRACE // 4))
    assert taken[-1] - taken[-2] == GRACE // 4


def test_a_public_worker_that_connected_again_has_longer_and_not_for_ever() -> None:
    lease = Lease(NOW, NOW + GRACE)
    longer = reconnected_lease(lease, GRACE)
    assert longer == Lease(NOW, NOW + 6 * GRACE)
    assert reconnected_lease(longer, GRACE) == longer
    assert reconnected_lease(Lease(NOW, NOW + 9 * GRACE), GRACE) == Lease(NOW, NOW + 9 * GRACE)


def test_what_is_sent_again_has_the_grace_again_and_twice_that_in_all() -> None:
    lease = Lease(NOW, NOW + GRACE)
    assert extended_lease(lease, NOW + micros(10), GRACE) == Lease(NOW, NOW + micros(610))
    assert extended_lease(lease, NOW + GRACE, GRACE) == Lease(NOW, NOW + 2 * GRACE)
    longest = Lease(NOW, NOW + 2 * GRACE)
    assert extended_lease(longest, NOW + 2 * GRACE - 1, GRACE) == longest
    longer = Lease(NOW, NOW + 9 * GRACE)
    assert extended_lease(longer, NOW + 8 * GRACE, GRACE) == longer
