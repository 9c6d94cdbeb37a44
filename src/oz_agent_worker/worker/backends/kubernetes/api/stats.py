"""Counts what the backend asks of the API server, for benchmarks to read, and tells telemetry."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from oz_agent_worker.worker.events import Notify, RequestAnswered, WatchRestarted, ignore_event

__all__ = ["NO_ANSWER", "ApiStats"]

#: Stands for the HTTP status of a request that got none.
NO_ANSWER: Final = 0


@dataclass(slots=True)
class ApiStats:
    """Totals since the start.

    ``requests`` is keyed by Kubernetes verb, resource and HTTP status (``NO_ANSWER`` where
    there was none) and counts every attempt; ``watches`` opened and ``lists`` completed, by
    resource: all but the first of each are restarts. ``notify`` hears of each as it happens.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    watches: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    notify: Notify = ignore_event

    def answered(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count a request that was answered, or given up, after ``seconds``."""
        self.requests[verb, resource, code] += 1
        self.notify(RequestAnswered(verb, resource, code, seconds))

    def restarted(self, resource: str, reason: str) -> None:
        """Tell that a watch is to be opened once more."""
        self.notify(WatchRestarted(resource, reason))

    def asked(self, verb: str, resource: str | None = None) -> int:
        """How many requests had this verb (and this resource)."""
        return sum(n for (v, r, _), n in self.requests.items() if v == verb and resource in (None, r))
