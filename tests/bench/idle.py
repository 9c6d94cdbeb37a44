"""Phase one: how fast a worker starts, and what it takes when it has nothing to do."""

import asyncio
import statistics

from tests.bench.figures import IDLE_MEMORY, START, Figure
from tests.bench.stage import Stage

__all__ = ["measure_idle"]


async def measure_idle(stage: Stage) -> list[Figure]:
    """Start a worker several times, and let each settle."""
    namespace = await asyncio.to_thread(stage.tier.create_namespace)
    starts, resident, peak = [], [], []
    for _ in range(stage.settings.starts):
        async with stage.worker(namespace) as worker:
            starts.append(worker.start_seconds)
            memory = await worker.settled_memory(timeout=5)
            resident.append(memory.resident)
            peak.append(memory.peak)
    spread = f"median of {len(starts)}, {min(starts):.2f} to {max(starts):.2f} s"
    return [
        Figure(START, statistics.median(starts), spread),
        Figure(IDLE_MEMORY, statistics.median(resident), f"peak {max(peak):.1f} MiB"),
    ]
