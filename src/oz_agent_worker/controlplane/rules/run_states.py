"""The states of a run and the moves between them, as data.

==========  ===============================================================
QUEUED      waits for a worker
PENDING     assigned to a worker that has not claimed it yet
CLAIMED     a worker has it in its hands
INPROGRESS  its first output has arrived
SUCCEEDED   the agent ended well
FAILED      the agent, or what it was asked, failed
ERROR       what runs the agent failed
CANCELLED   a user cancelled it
BLOCKED     part of the public API; no run enters it here
==========  ===============================================================
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["IN_FLIGHT", "TERMINAL", "TRANSITIONS", "RunState", "can_move"]


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
_ENDS: Final = frozenset({_S.SUCCEEDED, _S.FAILED, _S.ERROR, _S.CANCELLED})

#: States that a run never leaves.
TERMINAL: Final = _ENDS | {_S.BLOCKED}

#: States in which a run is some worker's.
IN_FLIGHT: Final = frozenset({_S.PENDING, _S.CLAIMED, _S.INPROGRESS})

#: For each state, those that may follow it. A worker's word is taken late rather than
#: not at all: a claim, output or a report may arrive for a run that is back in the queue.
#: A run in flight goes back there when its worker hands it back, or stays away and the run
#: is safe to retry; it is PENDING again where others were sent it too. The database
#: enforces the table as well (``migrations``).
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
