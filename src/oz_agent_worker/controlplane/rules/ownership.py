"""Whose word counts for a run: pure rules over its head and the peer that speaks.

Only a run's current execution is spoken of, and of that only by its owner. What waits in
the queue is nobody's: a claim or a report of its execution, which somebody must have been
sent, is taken late rather than not at all.
"""

from dataclasses import dataclass

from .peer import Peer
from .run_record import Head
from .run_states import TERMINAL, RunState

__all__ = ["Decision", "rule_claim", "rule_report"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a peer's word counts, and why (not)."""

    accepted: bool
    why: str


def rule_claim(run: Head, execution_id: str | None, peer: Peer, *, elsewhere: bool = False) -> Decision:
    """Rule on a claim, or on output, which says as much.

    ``execution_id`` is None where the peer cannot tell executions apart; ``elsewhere``:
    another open connection has the run.
    """
    word = rule_report(run, execution_id, peer)
    if not word.accepted or run.state is RunState.QUEUED:
        return word
    if elsewhere and not peer.sent_hello and run.state is not RunState.PENDING:
        # A public worker claims before it starts, once, and never again after a
        # reconnect: this is another process of its ID, about to start a second copy.
        return Decision(False, f"another connection of worker {peer.worker_id} has it")
    return word


def rule_report(run: Head, execution_id: str | None, peer: Peer, *, refused: bool = False) -> Decision:
    """Rule on a terminal report. ``refused``: the claim of the same connection was."""
    if execution_id not in (None, run.execution_id):
        return Decision(False, "another execution")
    if run.state in TERMINAL:
        return Decision(False, f"already {run.state}")
    if refused:
        return Decision(False, "its claim was refused")
    owner = run.owner
    if owner is None:
        if execution_id is None and run.retries:
            return Decision(False, "it may be of an earlier execution")
        return Decision(True, "nobody else has it")
    if owner.worker_id != peer.worker_id:
        return Decision(False, f"worker {owner.worker_id} has it")
    if not peer.may_report_for(owner):
        return Decision(False, f"another instance of worker {owner.worker_id} has it")
    return Decision(True, "its owner's word")
