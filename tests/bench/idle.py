"""Phase one: how fast a worker starts, and what it takes when it has nothing to do."""

import asyncio
import statistics

from .figures import IDLE_MEMORY, START, Figure
from .stage import Stage
from .worker_process import Start

__all__ = ["measure_idle"]


async def measure_idle(stage: Stage) -> list[Figure]:
    """Start a worker several times, and let each settle."""
    namespace = await asyncio.to_thread(stage.tier.create_namespace)
    starts, resident, peak = list[Start](), list[float](), list[float]()
    for _ in range(stage.settings.starts):
        async with stage.worker(namespace) as worker:
            starts.append(worker.start)
            memory = await worker.settled_memory(timeout=5)
            resident.append(memory.resident)
            peak.append(memory.peak)
    own = [start.own for start in starts]
    preflight = statistics.median(start.preflight for start in starts)
    spread = f"median of {len(own)}, {min(own):.2f} to {max(own):.2f} s; preflight of {preflight:.1f} s aside"
    return [
        Figure(START, statistics.median(own), spread),
        Figure(IDLE_MEMORY, statistics.median(resident), f"peak {max(peak):.1f} MiB"),
    ]
