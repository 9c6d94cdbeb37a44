"""Who the worker is, as its metrics and traces say it."""

from dataclasses import dataclass

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Attributes of the resource; ``max_concurrent_tasks`` 0 is unlimited."""

    worker_id: str
    version: str
    backend: str
    max_concurrent_tasks: int = 0
