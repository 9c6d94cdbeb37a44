"""What telemetry reads by itself, because nobody tells of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.worker.events import WatchStatus

__all__ = ["Subjects"]


@dataclass(frozen=True, slots=True)
class Subjects:
    """Read on the event loop, about once a second."""

    outbox: Outbox
    watches: Callable[[], Sequence[WatchStatus]]
