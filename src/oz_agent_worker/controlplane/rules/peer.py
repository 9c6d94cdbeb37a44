"""Who is at the other end of a connection, and who may speak for whom.

A worker ID may stand for several processes. Those that say hello name their backend and,
with ``instance``, themselves: the instance is the same again only where a restarted worker
finds all that it ran. Those of the direct backend name the journal that several may share,
and their slot in it: ``host/<journal>/<slot>``. A public worker says nothing of the kind.
"""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["KUBERNETES", "Peer"]

#: The backend whose Jobs, named after their execution, cannot be created twice in one namespace.
KUBERNETES: Final = "kubernetes"

_SLOT: Final = re.compile(r"(host/[0-9a-f]{32})/[0-9]+")


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker's process, as far as it said; ``backend`` None: it said no hello."""

    worker_id: str
    backend: str | None = None
    instance: str | None = None

    @property
    def sent_hello(self) -> bool:
        """Whether it said hello: it then tells executions apart."""
        return self.backend is not None

    def same_instance(self, owner: "Peer") -> bool:
        """Whether what ``owner`` started keeps this peer from starting it a second time.

        Either it is the same instance, which found what it ran, or both create the same Job.
        A shared journal is not enough: what its owner has received and not begun is not in it.
        """
        if self.worker_id != owner.worker_id:
            return False
        if self.backend == owner.backend == KUBERNETES:
            return True
        return self.instance is not None and self.instance == owner.instance

    def may_report_for(self, owner: "Peer") -> bool:
        """Whether this peer may have in its hands what ``owner`` was given.

        Of an owner that did not name itself, any process with its ID may be the same one. Of
        those that share a journal, each has what it holds there alone, also after another's death.
        """
        if self.worker_id != owner.worker_id:
            return False
        shared = self.journal is not None and self.journal == owner.journal
        return owner.instance is None or shared or self.same_instance(owner)

    @property
    def journal(self) -> str | None:
        """The journal that its instance names, where it is one of a slot."""
        named = _SLOT.fullmatch(self.instance or "")
        return named.group(1) if named else None
