"""Which waiting run goes to which connection: a pure decision.

Runs are taken in the order in which they came. A run that names a worker ID goes to a
connection with that ID alone, any other to any connection. Among those with room, the
one that was served longest ago takes it, which is round robin that stays fair when
connections come, go and fill up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.controlplane.times import micros

__all__ = ["Assignment", "Opening", "Waiting", "plan", "requeue_delay"]

_LONGEST_DELAY: Final = 60


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run in the queue that may be assigned."""

    run_id: str
    worker_host: str | None


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection that can take runs.

    ``free`` is the number it may take (None: any number); ``last_served`` grows with
    each assignment over all connections.
    """

    connection_id: int
    worker_id: str
    free: int | None
    last_served: int = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run for one connection."""

    run_id: str
    connection_id: int


def plan(waiting: Sequence[Waiting], openings: Sequence[Opening]) -> tuple[Assignment, ...]:
    """Assign as many of ``waiting`` (oldest first) as ``openings`` have room for."""
    free = {o.connection_id: o.free for o in openings if o.free is None or o.free > 0}
    served = {o.connection_id: (o.last_served, o.connection_id) for o in openings}
    worker_of = {o.connection_id: o.worker_id for o in openings}
    tick = max((o.last_served for o in openings), default=0)
    assignments = []
    for run in waiting:
        eligible = [c for c in free if run.worker_host in (None, worker_of[c])]
        if not eligible:
            continue
        chosen = min(eligible, key=served.__getitem__)
        tick += 1
        served[chosen] = (tick, chosen)
        assignments.append(Assignment(run.run_id, chosen))
        room = free[chosen]
        if room is not None:
            free[chosen] = room - 1
            if room == 1:
                del free[chosen]
        if not free:
            break
    return tuple(assignments)


def requeue_delay(attempts: int) -> int:
    """Microseconds for which a run waits after it came back ``attempts`` times: 1 s, doubling to 60 s."""
    return micros(min(_LONGEST_DELAY, 2 ** min(max(attempts, 1) - 1, 6)))
