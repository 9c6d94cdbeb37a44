"""The part of a run that decides what may happen to it: never its prompt."""

from dataclasses import dataclass

from .peer import Peer
from .run_states import RunState

__all__ = ["Head"]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A run's state, its current execution, and whose that is. Times are microseconds since the epoch.

    ``resent``: more than one process was sent the execution. ``retries`` counts the
    executions before it. ``cancelled_by`` is the name of the key that asked for it, where
    known. ``away_since`` and ``lease_until`` (``leases.Lease``) are set while nobody is there
    who certainly has the run.
    """

    id: str
    execution_id: str
    state: RunState
    worker_id: str | None = None
    worker_backend: str | None = None
    worker_instance: str | None = None
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
    def owner(self) -> Peer | None:
        """The process that was sent the execution, or claimed it."""
        if self.worker_id is None:
            return None
        return Peer(self.worker_id, self.worker_backend, self.worker_instance)
