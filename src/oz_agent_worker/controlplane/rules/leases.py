"""How long a run waits for its worker, and what becomes of it then: pure decisions.

A lease runs while no connection is open that has the run; of a run that was sent and
not answered, until it is answered. Only time in which a control plane listens counts.
What is stored is when a lease ends should nobody stop listening, and now and then a
*checkpoint*: that somebody listens. A control plane that starts makes up its mind from both.
"""

from dataclasses import dataclass, replace
from typing import Final

from oz_agent_worker.controlplane.times import micros

from .messages import in_words
from .ownership import RunRecord
from .run_states import RunOutcome, RunState, cancellation_message

__all__ = [
    "WORKER_LOST",
    "Lease",
    "extended_lease",
    "lease_end",
    "next_checkpoint",
    "resumed_lease",
    "was_paused",
]

#: ``error_code`` of a run whose worker did not come back.
WORKER_LOST: Final = "worker_lost"

#: What a worker needs at most to find a control plane that has started: the longest pause
#: between two attempts is 60 s, and an attempt takes a while.
_TIME_TO_RECONNECT: Final = micros(75)
#: Checkpoints are at least so far apart.
_FIRST_CHECKPOINT: Final = micros(1)
#: A control plane that wakes so late was not slow, it stood still.
_PAUSE: Final = micros(10)


@dataclass(frozen=True, slots=True)
class Lease:
    """Since when a run is waited for, less the time in which nobody listened, and until when.

    Both are microseconds since the epoch.
    """

    since: int
    until: int


def lease_end(run: RunRecord, now: int, max_starts: int) -> RunOutcome:
    """Decide about a run in flight whose lease has ended; ``max_starts`` bounds its executions."""
    lost = _lost(run, now)
    if run.cancel_requested:
        unsure = f"worker {lost}, and did not confirm it"
        return RunOutcome(state=RunState.CANCELLED, message=cancellation_message(run.cancelled_by, unsure))
    starts = run.retries + 1
    if run.safe_to_retry and starts < max_starts:
        what_next = "The run is marked safe to retry: it is queued again as a fresh execution."
        return RunOutcome(state=RunState.QUEUED, message=f"Worker {lost}. {what_next}")
    if run.safe_to_retry:
        times = "once" if starts == 1 else f"{starts} times"
        what_next = f"The run was started {times}, the most that is allowed; it may be submitted again."
    else:
        what_next = "How far the run came is not known; whoever can judge may submit it again."
    return RunOutcome(
        state=RunState.ERROR, message=f"Worker {lost}. {what_next}", error_code=WORKER_LOST, retryable=True
    )


def _lost(run: RunRecord, now: int) -> str:
    since = in_words(now - (now if run.away_since is None else run.away_since))
    if run.state is RunState.PENDING:
        return f"{run.worker_id} was sent the run and did not answer for {since}"
    return f"{run.worker_id} was away, or without the run, for {since}"


def resumed_lease(lease: Lease, checkpoint: int | None, now: int, grace: int) -> Lease:
    """Go on with a lease that a control plane finds at its start.

    The time since somebody certainly listened is left out of it: it has left what it had
    left then, and time enough for its worker to connect. ``checkpoint`` is None where none
    was taken, and may be ahead of ``now`` where a clock was corrected.
    """
    listened = max(lease.since, lease.since if checkpoint is None else min(checkpoint, now))
    to_reconnect = min(_TIME_TO_RECONNECT, grace // 4)
    return Lease(
        since=lease.since + max(0, now - listened),
        until=now + min(grace, max(to_reconnect, lease.until - listened)),
    )


def extended_lease(lease: Lease, now: int, grace: int) -> Lease:
    """Lengthen a lease whose run is sent again to a worker that will answer.

    That one has the grace too, yet a worker that dies of the run each time, and comes back,
    would wait with it for ever: twice the grace is the most in all.
    """
    return replace(lease, until=max(lease.until, min(now + grace, lease.since + 2 * grace)))


def next_checkpoint(started: int, last: int, grace: int) -> int:
    """When a control plane takes its next checkpoint, where leases run.

    Each comes when it has been there for twice as long, and after a quarter of the grace at
    the latest: a crash takes back no more than that, nor more than half of its life.
    """
    return last + min(grace // 4, max(_FIRST_CHECKPOINT, last - started))


def was_paused(late: int) -> bool:
    """Whether a control plane that woke so late heard nobody meanwhile.

    Its process was stopped, its machine suspended, or its database away.
    """
    return late > _PAUSE
