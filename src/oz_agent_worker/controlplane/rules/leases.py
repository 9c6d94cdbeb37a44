"""How long a run waits for a lost worker, and what becomes of the run then: pure decisions.

A run has a lease while no open connection has it; a run that was sent and not answered has one
until it is answered. So has one that a public worker was asked to cancel, since it need not answer.
Only time in which a control plane runs counts. The store has the end of each lease, which holds
if the control plane keeps running, and a *checkpoint*: the last time at which one certainly ran.
A control plane that starts computes the time left from both.
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
    "reconnected_lease",
    "resumed_lease",
    "time_to_reconnect",
    "was_paused",
]

#: ``error_code`` of a run whose worker did not reconnect.
WORKER_LOST: Final = "worker_lost"

#: Longest time in which a worker reconnects to a control plane that has started: it waits up to
#: 60 s between two attempts, and an attempt takes a few seconds.
_TIME_TO_RECONNECT: Final = micros(75)
#: Least time between two checkpoints.
_FIRST_CHECKPOINT: Final = micros(1)
#: Graces that a public worker has to report what it may still run, once it has connected again.
_GRACES_TO_REPORT: Final = 6
#: A control plane that wakes later than this was not slow but stopped.
_PAUSE: Final = micros(10)


@dataclass(frozen=True, slots=True)
class Lease:
    """Begin and end of a wait for a worker, in microseconds since the epoch.

    ``since`` is moved by the time in which no control plane ran.
    """

    since: int
    until: int


def lease_end(run: RunRecord, now: int, max_starts: int) -> RunOutcome:
    """Decide what follows for a run whose lease has ended; ``max_starts`` limits its executions."""
    lost = _lost(run, now)
    if run.cancel_requested:
        how = f"worker {lost}" if run.is_public else f"worker {lost}, and did not confirm it"
        return RunOutcome(state=RunState.CANCELLED, message=cancellation_message(run.cancelled_by, how))
    starts = run.retries + 1
    if run.safe_to_retry and starts < max_starts:
        what_next = "The run is marked safe to retry: it is queued again as a fresh execution."
        return RunOutcome(state=RunState.QUEUED, message=f"Worker {lost}. {what_next}")
    if run.safe_to_retry:
        times = "once" if starts == 1 else f"{starts} times"
        what_next = f"The run was started {times}, the most that is allowed; it may be submitted again."
    else:
        what_next = "How far the run came is not known; check what it did before you submit it again."
    return RunOutcome(
        state=RunState.ERROR, message=f"Worker {lost}. {what_next}", error_code=WORKER_LOST, retryable=True
    )


def _lost(run: RunRecord, now: int) -> str:
    since = in_words(now - (now if run.away_since is None else run.away_since))
    if run.state is RunState.PENDING:
        return f"{run.worker_id} was sent the run and did not answer for {since}"
    if run.is_public and run.cancel_requested:
        return f"{run.worker_id} did not confirm within {since} that the task stopped"
    if run.is_public:
        return f"{run.worker_id} sent nothing about the run for {since} after its connection closed"
    return f"{run.worker_id} was away, or without the run, for {since}"


def time_to_reconnect(grace: int) -> int:
    """How long a worker may take to connect again, for a lease of ``grace``."""
    return min(_TIME_TO_RECONNECT, grace // 4)


def resumed_lease(lease: Lease, checkpoint: int | None, now: int, grace: int) -> Lease:
    """Continue a lease that a control plane finds at its start.

    It has the time left that it had at the checkpoint, and at least enough for its worker to
    reconnect. ``checkpoint`` is None if there is none, and may be later than ``now`` if the
    clock was corrected.
    """
    ran_until = max(lease.since, lease.since if checkpoint is None else min(checkpoint, now))
    return Lease(
        since=lease.since + max(0, now - ran_until),
        until=now + min(grace, max(time_to_reconnect(grace), lease.until - ran_until)),
    )


def extended_lease(lease: Lease, now: int, grace: int) -> Lease:
    """Extend a lease whose run is sent again to a worker that sent a hello.

    The worker gets the grace to answer, up to twice the grace in total. Otherwise a worker that
    crashes on the run each time and reconnects would extend the lease for ever.
    """
    return replace(lease, until=max(lease.until, min(now + grace, lease.since + 2 * grace)))


def reconnected_lease(lease: Lease, grace: int) -> Lease:
    """Extend the lease of a claimed run whose public worker may have connected again.

    A worker that reconnects still runs its tasks, one that was restarted may not, and neither says
    so: only the end of a task is reported. The connection is therefore no sign of life, and the
    lease ends, but the worker gets longer to report than one that stays away. Extending the lease
    twice has no effect.
    """
    return replace(lease, until=max(lease.until, lease.since + _GRACES_TO_REPORT * grace))


def next_checkpoint(started: int, last: int, grace: int) -> int:
    """The time of the next checkpoint of a control plane, if any lease runs.

    The time between checkpoints doubles, up to a quarter of the grace. A crash thus loses at
    most a quarter of the grace, and at most half of the control plane's run time.
    """
    return last + min(grace // 4, max(_FIRST_CHECKPOINT, last - started))


def was_paused(late: int) -> bool:
    """Whether a control plane that woke so late could not receive frames meanwhile.

    The process was stopped, the machine suspended, or the database unavailable.
    """
    return late > _PAUSE
