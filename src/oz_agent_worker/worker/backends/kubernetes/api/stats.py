"""Counts the backend's requests to the API server, for tests and benchmarks, and reports them as events."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from oz_agent_worker.worker.events import Notify, RequestAnswered, WatchRestarted, ignore_event

__all__ = ["NO_ANSWER", "ApiStats"]

#: Counts as the HTTP status of a request without an answer.
NO_ANSWER: Final = 0


@dataclass(slots=True)
class ApiStats:
    """Totals since the start.

    ``requests`` counts every attempt by verb, resource and HTTP status (or ``NO_ANSWER``). ``watches``
    that were opened and ``lists`` that were completed are by resource: all but the first of each are
    restarts. ``notify`` receives an event for each request and restart.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    watches: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    notify: Notify = ignore_event

    def answered(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count a request that ended with an answer, or without one, after ``seconds``."""
        self.requests[verb, resource, code] += 1
        self.notify(RequestAnswered(verb, resource, code, seconds))

    def restarted(self, resource: str, reason: str) -> None:
        """Report that a watch is opened again; ``reason`` is that of the metric."""
        self.notify(WatchRestarted(resource, reason))

    def count(self, verb: str, resource: str | None = None) -> int:
        """How many requests with this verb (and resource) were sent."""
        return sum(n for (v, r, _), n in self.requests.items() if v == verb and resource in (None, r))
