"""Who is at the other end of a connection, and who may speak for whom.

A worker ID may stand for several processes. Those that say hello name their backend and,
with ``instance``, themselves: the instance is the same again only where a restarted worker
finds all that it ran. A public worker says nothing of the kind.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["KUBERNETES", "Peer"]

#: The backend whose Jobs, named after their execution, cannot be created twice in one namespace.
KUBERNETES: Final = "kubernetes"


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker's process, as far as it said; ``backend`` None: it said no hello."""

    worker_id: str
    backend: str | None = None
    instance: str | None = None

    @property
    def greeted(self) -> bool:
        """Whether it said hello: it then tells executions apart."""
        return self.backend is not None

    def is_again(self, owner: "Peer") -> bool:
        """Whether what ``owner`` started keeps this peer from starting it a second time.

        Either it is the same instance, which found what it ran, or both create the same Job.
        """
        if self.worker_id != owner.worker_id:
            return False
        if self.backend == owner.backend == KUBERNETES:
            return True
        return self.instance is not None and self.instance == owner.instance

    def may_speak_for(self, owner: "Peer") -> bool:
        """Whether this peer may have in its hands what ``owner`` was given.

        Of an owner that did not name itself, any process with its ID may be the same one.
        """
        return self.is_again(owner) or (owner.worker_id == self.worker_id and owner.instance is None)
