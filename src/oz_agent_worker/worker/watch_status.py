"""How a watch is, as whoever examines the worker needs to know."""

from dataclasses import dataclass

__all__ = ["WatchVitals"]


@dataclass(frozen=True, slots=True)
class WatchVitals:
    """The state of the watch of one resource; times in seconds.

    ``running``: what keeps the watch has not ended. ``unheard_for``: since the server last
    told anything, a bookmark included. ``idle_for``: since the watch last did anything,
    such as hear, or try once more to reach a server that does not answer; beyond
    ``idle_limit`` it does not do what it should.
    """

    resource: str
    running: bool
    unheard_for: float
    idle_for: float
    idle_limit: float

    @property
    def alive(self) -> bool:
        """Whether it runs and keeps within its own limits."""
        return self.running and self.idle_for <= self.idle_limit
