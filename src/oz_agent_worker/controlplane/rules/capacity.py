"""How many more runs a connection may be given.

A worker that said hello declared its limit. A public worker says nothing, so it is
given work until it rejects; the number it had in flight then is its learned limit,
and one run beyond that, at a growing distance in time, probes for more.
"""

from dataclasses import dataclass, replace
from typing import Final

from oz_agent_worker.controlplane.times import micros

__all__ = ["Capacity"]

_FIRST_BACKOFF: Final = micros(1)
_LONGEST_BACKOFF: Final = micros(30)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What is known of one connection. Times and lengths are microseconds."""

    declared: int = 0
    """Most runs at once by the worker's own word; 0: unlimited, or nothing said."""
    learned: int | None = None
    """Runs in flight when it last rejected one, where it declared nothing."""
    backoff: int = 0
    """Length of the last pause."""
    ready_at: int = 0
    """End of the pause: nothing beyond the learned limit is tried before."""

    def free(self, in_flight: int, now: int) -> int | None:
        """Runs that may be given at ``now``; None: as many as there are."""
        paused = now < self.ready_at
        if self.learned is not None:
            return max(0, self.learned + (0 if paused else 1) - in_flight)
        if paused:
            return 0
        return max(0, self.declared - in_flight) if self.declared else None

    def sent_hello(self, max_concurrent_tasks: int) -> "Capacity":
        """After a hello: the worker's word replaces what was learned."""
        return Capacity(declared=max(0, max_concurrent_tasks))

    def rejected(self, in_flight: int, now: int) -> "Capacity":
        """After a rejection, with ``in_flight`` runs left.

        Rejections during a pause answer assignments from before it: they lower the
        learned limit and leave the pause as long as it is.
        """
        learned = None if self.declared else in_flight
        if now < self.ready_at:
            return replace(self, learned=learned)
        backoff = min(_LONGEST_BACKOFF, max(_FIRST_BACKOFF, 2 * self.backoff))
        return replace(self, learned=learned, backoff=backoff, ready_at=now + backoff)

    def claimed(self, in_flight: int) -> "Capacity":
        """After a claim: a claim beyond the learned limit raises it."""
        if self.learned is None or in_flight <= self.learned:
            return self
        return replace(self, learned=in_flight, backoff=0, ready_at=0)

    def ended(self, in_flight: int) -> "Capacity":
        """After the end of one of its runs, with ``in_flight`` left.

        The pause ends too where no learned slot came free with it.
        """
        slot_freed = self.learned is not None and in_flight < self.learned
        return replace(self, backoff=0, ready_at=self.ready_at if slot_freed else 0)
