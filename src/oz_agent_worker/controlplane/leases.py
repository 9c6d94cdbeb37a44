"""What becomes of a run whose worker stayed away too long: a pure decision.

A lease is the time for which a run waits for its worker. It runs only while no
connection is open that has the run.
"""

from dataclasses import dataclass
from typing import Final

from .head import Head
from .states import RunState
from .wording import in_words

__all__ = ["WORKER_LOST", "LeaseEnd", "lease_end"]

#: ``error_code`` of a run whose worker did not come back.
WORKER_LOST: Final = "worker_lost"


@dataclass(frozen=True, kw_only=True)
class LeaseEnd:
    """The state into which the run moves, and what is said of it."""

    state: RunState
    message: str
    error_code: str | None = None
    retryable: bool | None = None


def lease_end(run: Head, now: int) -> LeaseEnd:
    """Decide about a run in flight whose lease has ended."""
    away = in_words(now - (now if run.away_since is None else run.away_since))
    lost = f"Worker {run.worker_id} was away, or without the run, for {away}"
    if run.cancel_requested:
        return LeaseEnd(state=RunState.CANCELLED, message=f"{lost}, and could not confirm the cancellation.")
    if run.safe_to_retry:
        return LeaseEnd(
            state=RunState.QUEUED,
            message=f"{lost}. The run is marked safe to retry: it is queued again as a fresh execution.",
        )
    return LeaseEnd(
        state=RunState.ERROR,
        message=f"{lost}. How far the run came is not known; whoever can judge may submit it again.",
        error_code=WORKER_LOST,
        retryable=True,
    )
