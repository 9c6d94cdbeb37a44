"""The states of a run, the moves between them, and the messages of its cancellation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .messages import storable

__all__ = [
    "IN_FLIGHT",
    "STATE_MEANINGS",
    "TERMINAL",
    "TRANSITIONS",
    "RunOutcome",
    "RunState",
    "can_move",
    "cancellation_message",
    "cancellation_pending",
    "cancelled_by_worker",
]


class RunState(StrEnum):
    """A run's state, as the public API spells it."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    CLAIMED = "CLAIMED"
    INPROGRESS = "INPROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    BLOCKED = "BLOCKED"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


_S = RunState

#: The meaning of each state, for docs/api.md.
STATE_MEANINGS: Final = {
    _S.QUEUED: "waits for a worker",
    _S.PENDING: "sent to a worker that has not claimed it yet",
    _S.CLAIMED: "claimed by a worker",
    _S.INPROGRESS: "its first output has arrived",
    _S.SUCCEEDED: "the agent succeeded",
    _S.FAILED: "the agent, or what it was asked to do, failed",
    _S.ERROR: "the infrastructure failed; `status_message.retryable` says whether another try may help",
    _S.CANCELLED: "cancelled by a user or by the worker",
    _S.BLOCKED: "part of the public API; no run enters it here",
}

_ENDS: Final = frozenset({_S.SUCCEEDED, _S.FAILED, _S.ERROR, _S.CANCELLED})

#: States that a run never leaves.
TERMINAL: Final = _ENDS | {_S.BLOCKED}

#: States in which a worker owns the run.
IN_FLIGHT: Final = frozenset({_S.PENDING, _S.CLAIMED, _S.INPROGRESS})

#: For each state, the states that may follow it. Late claims, output and reports are accepted,
#: so any of them may arrive for a run that is back in the queue. A run in flight returns to the
#: queue when its worker rejects it, or when the worker is lost and the run is safe to retry. It
#: becomes PENDING again if other processes were sent it too. A trigger in the database enforces
#: the same table (``migrations``).
TRANSITIONS: Final[Mapping[RunState, frozenset[RunState]]] = MappingProxyType(
    {
        _S.QUEUED: frozenset({_S.PENDING, _S.CLAIMED, _S.INPROGRESS}) | _ENDS,
        _S.PENDING: frozenset({_S.QUEUED, _S.CLAIMED, _S.INPROGRESS}) | _ENDS,
        _S.CLAIMED: frozenset({_S.QUEUED, _S.PENDING, _S.INPROGRESS}) | _ENDS,
        _S.INPROGRESS: frozenset({_S.QUEUED}) | _ENDS,
        _S.SUCCEEDED: frozenset(),
        _S.FAILED: frozenset(),
        _S.BLOCKED: frozenset(),
        _S.ERROR: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)


def can_move(source: RunState, target: RunState) -> bool:
    """Whether a run in ``source`` may move to ``target``."""
    return target in TRANSITIONS[source]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The state into which a run moves at the end of an execution, and why."""

    state: RunState
    message: str
    error_code: str | None = None
    retryable: bool | None = None
    exit_code: int | None = None


def cancellation_message(asked_by: str | None, how: str) -> str:
    """The message of a run that was cancelled on request.

    ``asked_by`` is the name of the API key, None if it is not known; ``how`` is a clause that
    says how the run ended.
    """
    return storable(f"Cancelled{_with_key(asked_by)}; {how}.")


def cancelled_by_worker(
    worker_id: str, reason: str, *, asked_by: str | None, asked: bool, stopped: bool
) -> str:
    """The message of a run that its worker reports as cancelled, with the worker's ``reason``.

    If the worker was ``asked`` to cancel, its reason only repeats that and is left out. ``stopped``:
    the report shows that the task stopped. A public worker sends it before it knows, or leaves
    the task running.
    """
    if asked and stopped:
        return cancellation_message(asked_by, f"worker {worker_id} stopped it")
    if asked:
        how = f"worker {worker_id} reported it as cancelled, which does not show that the task stopped"
        return cancellation_message(asked_by, how)
    detail = reason.strip().rstrip(".")
    return storable(f"Cancelled by worker {worker_id}{f': {detail}' if detail else ''}.")


def cancellation_pending(asked_by: str | None, worker_id: str | None, until: str | None = None) -> str:
    """The message of a run until its worker reports that it was cancelled.

    ``until`` is the time at which the run ends without such a report; None: there is none, since
    the worker confirms when the task has stopped.
    """
    waiting = f"worker {worker_id}" if worker_id else "its worker"
    limit = f", until {until} at most: it need not confirm that the task stopped" if until else ""
    return f"Cancellation requested{_with_key(asked_by)}; waiting for {waiting}{limit}."


def _with_key(asked_by: str | None) -> str:
    # Quoted as JSON, so that a name cannot add text of its own to the message.
    return f" with the API key {json.dumps(asked_by, ensure_ascii=False)}" if asked_by else ""
