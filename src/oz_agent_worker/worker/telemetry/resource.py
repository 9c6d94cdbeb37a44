"""Which worker the metrics and traces are of."""

from dataclasses import dataclass

__all__ = ["WorkerResource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResource:
    """Attributes of the OpenTelemetry resource; ``max_concurrent_tasks`` 0 is unlimited."""

    worker_id: str
    version: str
    backend: str
    max_concurrent_tasks: int = 0
