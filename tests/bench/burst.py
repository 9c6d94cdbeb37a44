"""Phase two: how fast a worker turns many assignments into Jobs, held against a bare loop.

There is no controller of Jobs meanwhile, for both alike: its own requests are not the
worker's, and would set the pace.
"""

import asyncio
import itertools
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .assignments import job_body, task_ids
from .bare_loop import BareLoop, Pace
from .errors import BenchError
from .figures import BURST_RATIO, Figure
from .ledger import CANCELLED, Ledger
from .stage import Stage
from .waiting import until
from .worker_process import WorkerProcess

__all__ = ["measure_burst", "neighbour_ratios"]

#: Tasks of a round that does not count: connections open, caches fill.
WARM_UP = 64


async def measure_burst(stage: Stage) -> list[Figure]:
    """Alternate bare loop and worker; compare each round's rate with those of the bare loop beside it."""
    count = stage.settings.burst
    bare_namespace = await asyncio.to_thread(stage.tier.create_namespace)
    namespace = await asyncio.to_thread(stage.tier.create_namespace)
    bare_paces, rates = [], []
    async with (
        BareLoop(stage.tier.connection("worker"), bare_namespace) as bare,
        stage.worker(namespace) as worker,
    ):
        with _jobs_left_alone(stage):
            await _bare_round(stage, bare, bare_namespace, "warm", WARM_UP)
            await _worker_round(stage, worker, "warm", WARM_UP)
            for number in range(stage.settings.rounds):
                bare_paces.append(await _bare_round(stage, bare, bare_namespace, f"a{number}", count))
                rates.append(await _worker_round(stage, worker, f"b{number}", count))
            bare_paces.append(await _bare_round(stage, bare, bare_namespace, "last", count))
    return [_ratio_figure(count, rates, bare_paces)]


def _ratio_figure(count: int, rates: list[float], bare: list[Pace]) -> Figure:
    bare_rates = [pace.rate for pace in bare]
    ratios = neighbour_ratios(rates, bare_rates)
    rate, bare_rate = statistics.median(rates), statistics.median(bare_rates)
    cpu = statistics.median(pace.cpu for pace in bare) * 1000
    note = (
        f"{count} assignments: {rate:.0f} against {bare_rate:.0f} a second; {min(ratios):.2f} to"
        f" {max(ratios):.2f} in {len(ratios)} round(s); a bare request costs {cpu:.2f} ms of CPU"
    )
    return Figure(BURST_RATIO, statistics.median(ratios), note)


def neighbour_ratios(rates: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Divide each rate by the mean of the bare ones before and after it.

    What else the machine does changes from one round to the next, and less between neighbours.
    """
    return [rate / statistics.mean(pair) for rate, pair in zip(rates, itertools.pairwise(bare), strict=True)]


@contextmanager
def _jobs_left_alone(stage: Stage) -> Iterator[None]:
    # Not paused: it would have seen the Jobs, and work through them when they are long gone.
    stage.tier.controller_manager.stop(grace=0)
    try:
        yield
    finally:
        stage.tier.controller_manager.start()


async def _bare_round(stage: Stage, bare: BareLoop, namespace: str, name: str, count: int) -> Pace:
    bodies = [
        job_body(task_id, namespace, "bare", stage.peer.root_url)
        for task_id in task_ids(f"bare-{name}", count)
    ]
    pace = await bare.create(bodies)
    await stage.api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs", propagationPolicy="Background")
    return pace


async def _worker_round(stage: Stage, worker: WorkerProcess, name: str, count: int) -> float:
    ledger = stage.peer.ledger = Ledger()
    tasks = task_ids(f"burst-{name}", count)
    await stage.assign(tasks)
    await until("the burst is claimed", lambda: ledger.claims == count, worker.check, timeout=120)
    await stage.peer.cancel(tasks)
    await until("the burst is cancelled", lambda: ledger.reports == count, worker.check, timeout=120)
    if problems := ledger.check(CANCELLED):
        raise BenchError("the burst went wrong: " + "; ".join(problems[:5]))
    return count / ledger.claiming_time()
