"""Who owns a run's execution, and whose claims and reports of it are accepted.

Only a run's current execution counts, and only its owner may claim it or report on it. A
queued run has no owner, so late claims and reports of its execution are accepted.

Several processes may connect with one worker ID. A worker that sends a hello frame names its
backend and, with ``instance``, itself. The instance stays the same over a restart only where
the worker finds all that it ran before. Workers of the direct backend may share a journal, and
name the journal and their slot in it: ``host/<journal>/<slot>``. A public worker sends no hello.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from .run_states import TERMINAL, RunState

__all__ = ["KUBERNETES", "Decision", "ExecutionRef", "Peer", "RunRecord", "decide_claim", "decide_report"]

#: The backend whose Jobs, named after their execution, cannot be created twice in one namespace.
KUBERNETES: Final = "kubernetes"

_SLOT: Final = re.compile(r"(host/[0-9a-f]{32})/[0-9]+")


class ExecutionRef(NamedTuple):
    """An execution as a frame names it; without ``execution_id`` the run's current one is meant."""

    run_id: str
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker process as it described itself; ``backend`` is None if it sent no hello."""

    worker_id: str
    backend: str | None = None
    instance: str | None = None

    @property
    def sent_hello(self) -> bool:
        """Whether it sent a hello frame: it then distinguishes executions of one run."""
        return self.backend is not None

    def same_instance(self, owner: "Peer") -> bool:
        """Whether this peer cannot start a second copy of what ``owner`` started.

        Either it is the same instance and knows what it ran, or both create the same Job. A
        shared journal is not enough: it lacks what the owner received and did not start yet.
        """
        if self.worker_id != owner.worker_id:
            return False
        if self.backend == owner.backend == KUBERNETES:
            return True
        return self.instance is not None and self.instance == owner.instance

    def may_report_for(self, owner: "Peer") -> bool:
        """Whether this peer may be running an execution that was sent to ``owner``.

        Any process with the worker ID of an unnamed owner may be that owner. Workers that
        share a journal may report on all that is in it, also after the owner's death.
        """
        if self.worker_id != owner.worker_id:
            return False
        shared = self.journal is not None and self.journal == owner.journal
        return owner.instance is None or shared or self.same_instance(owner)

    @property
    def journal(self) -> str | None:
        """The journal of an instance that is a slot in one, else None."""
        match = _SLOT.fullmatch(self.instance or "")
        return match.group(1) if match else None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What decides what may happen to a run; its prompt and configuration are left out.

    ``worker_host`` is the worker ID that the run names. ``owner`` is the process that was sent
    the current execution, or claimed it; until ``claim_deadline`` it may claim it. ``resent``:
    more than one process was sent that execution. ``attempts`` counts how often the run came
    back to the queue, ``retries`` the executions before the current one. ``cancelled_by`` is
    the name of the API key that asked for the cancellation, if known. ``away_since`` and
    ``lease_until`` (see ``leases.Lease``) are set while no open connection certainly has the
    run. Times are microseconds since the epoch.
    """

    id: str
    execution_id: str
    state: RunState
    worker_host: str | None = None
    owner: Peer | None = None
    claim_deadline: int | None = None
    resent: bool = False
    attempts: int = 0
    retries: int = 0
    safe_to_retry: bool = False
    cancel_requested: bool = False
    cancelled_by: str | None = None
    started_at: int | None = None
    lease_until: int | None = None
    away_since: int | None = None

    @property
    def worker_id(self) -> str | None:
        """The worker ID of the owner."""
        return self.owner.worker_id if self.owner else None

    @property
    def is_public(self) -> bool:
        """Whether a public worker owns it, which says nothing about a run until the run's end."""
        return self.owner is not None and not self.owner.sent_hello

    @property
    def ref(self) -> ExecutionRef:
        """The current execution."""
        return ExecutionRef(self.id, self.execution_id)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a claim or a report is accepted, and why (not)."""

    accepted: bool
    why: str


def decide_claim(
    run: RunRecord, execution_id: str | None, peer: Peer, *, elsewhere: bool = False
) -> Decision:
    """Decide about a claim, or about output, which implies one.

    ``execution_id`` is None if the peer cannot distinguish executions; ``elsewhere``: another
    open connection has the run.
    """
    decision = decide_report(run, execution_id, peer)
    if not decision.accepted or run.state is RunState.QUEUED:
        return decision
    if elsewhere and not peer.sent_hello and run.state is not RunState.PENDING:
        # A public worker claims once, before it starts, and not again after a reconnect. This
        # is another process with the same worker ID that is about to start a second copy.
        return Decision(False, f"another connection of worker {peer.worker_id} has it")
    return decision


def decide_report(
    run: RunRecord,
    execution_id: str | None,
    peer: Peer,
    *,
    refused: bool = False,
    elsewhere: bool = False,
    cancelled: bool = False,
) -> Decision:
    """Decide about a terminal report.

    ``refused``: a claim of the same connection was refused; ``elsewhere``: another open connection
    has the run; ``cancelled``: it reports the run as cancelled.
    """
    if execution_id not in (None, run.execution_id):
        return Decision(False, "another execution")
    if run.state in TERMINAL:
        return Decision(False, f"already {run.state}")
    if refused:
        return Decision(False, "its claim was refused")
    if execution_id is None and run.retries:
        if run.owner is None or elsewhere:
            return Decision(False, "it may be of an earlier execution")
        if cancelled and not run.cancel_requested:
            return Decision(False, "it answers the cancellation of an earlier execution")
    if run.owner is None:
        return Decision(True, "the run has no owner")
    if run.owner.worker_id != peer.worker_id:
        return Decision(False, f"worker {run.owner.worker_id} has it")
    if not peer.may_report_for(run.owner):
        return Decision(False, f"another instance of worker {peer.worker_id} has it")
    return Decision(True, "sent by its owner")
