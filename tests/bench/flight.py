"""Phase three: many tasks in flight, which end in a trickle and then all at once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.audit import AuditEntry

from . import figures
from .api_costs import ApiCosts, count_costs
from .assignments import task_ids
from .errors import BenchError
from .figures import Figure, percentile
from .job_watch import JobWatch, watching_jobs
from .ledger import COMPLETED, Ledger
from .procfs import Cpu, Memory
from .stage import Stage
from .waiting import until
from .worker_process import WorkerProcess
from .yardstick import Yardstick, yardstick

__all__ = ["FlightResult", "measure_flight"]


@dataclass(frozen=True, slots=True)
class FlightResult:
    """The figures, and the worker's requests by verb."""

    figures: list[Figure]
    costs: ApiCosts


@dataclass(frozen=True, slots=True)
class _Flight:
    """The phase's parts."""

    stage: Stage
    namespace: str
    worker: WorkerProcess
    watch: JobWatch
    ledger: Ledger

    @property
    def tasks(self) -> int:
        return self.stage.settings.in_flight

    async def until(self, what: str, count: int, now: Callable[[], int]) -> None:
        """Wait until ``now()`` is ``count``; what happens to thousands of Pods takes its time."""
        alive = (self.worker.check, self.stage.node.check, self.watch.check)
        timeout = 60 + 0.1 * self.tasks
        await until(f"{count} {what}", lambda: now() >= count, *alive, timeout=timeout, seen=now)


async def measure_flight(stage: Stage) -> FlightResult:
    """Assign all tasks, let them run, end them; watch what that takes."""
    namespace = await asyncio.to_thread(stage.tier.create_namespace)
    async with stage.worker(namespace) as worker:
        ledger = stage.peer.ledger
        async with watching_jobs(stage.api, namespace, ledger) as watch, yardstick() as stick:
            flight = _Flight(stage, namespace, worker, watch, ledger)
            return await _measure(flight, stick)


async def _measure(flight: _Flight, stick: Yardstick) -> FlightResult:
    count, trickled = flight.tasks, flight.stage.settings.trickled
    at_start = {entry.id for entry in await _audit(flight)}
    cpu_before = flight.worker.cpu()
    await _take_off(flight)
    memory = await flight.worker.settled_memory()
    trickle = await _end_some(flight, trickled, pause=1 / flight.stage.settings.rate)
    burst = await _end_some(flight, count - trickled, pause=0)
    await flight.until("Jobs are deleted", count, lambda: flight.watch.deleted)
    cpu, slowness = flight.worker.cpu() - cpu_before, await stick.read()
    after = await flight.worker.settled_memory()
    await _check(flight)
    costs = count_costs(await _audit(flight), at_start)
    return FlightResult(
        [
            _memory_figure(count, memory, after),
            *_request_figures(count, costs),
            _latency_figure(count, trickle, burst),
            _cpu_figure(count, cpu, slowness),
        ],
        costs,
    )


async def _audit(flight: _Flight) -> list[AuditEntry]:
    return await asyncio.to_thread(flight.stage.tier.audit, user="worker", namespace=flight.namespace)


async def _take_off(flight: _Flight) -> None:
    await flight.stage.assign(task_ids("flight", flight.tasks))
    await flight.until("tasks are claimed", flight.tasks, lambda: flight.ledger.claims)
    await flight.until("Pods run", flight.tasks, lambda: flight.stage.node.running(flight.namespace))


async def _end_some(flight: _Flight, count: int, *, pause: float) -> list[float]:
    """End ``count`` Pods; return how long each task's report took from its Job's end."""
    before = flight.ledger.reported_ids()
    await flight.stage.node.finish(flight.namespace, count, pause=pause)
    await flight.until("tasks are reported", len(before) + count, lambda: flight.ledger.reports)
    return flight.ledger.latencies(flight.ledger.reported_ids() - before)


async def _check(flight: _Flight) -> None:
    """Raise BenchError unless every task ran once, succeeded, and left nothing behind."""
    problems = flight.ledger.check(COMPLETED)
    pods = flight.stage.node.started(flight.namespace)
    if pods != flight.tasks:
        problems.append(f"{pods} Pods ran for {flight.tasks} tasks")
    left = await flight.stage.api.get(f"/apis/batch/v1/namespaces/{flight.namespace}/jobs")
    if left["items"]:
        problems.append(f"{len(left['items'])} Jobs were left behind")
    if problems:
        raise BenchError("the flight went wrong: " + "; ".join(problems[:5]))


def _memory_figure(count: int, memory: Memory, after: Memory) -> Figure:
    note = f"{count} tasks; peak of the whole phase {after.peak:.1f}, after it {after.resident:.1f} MiB"
    return Figure(figures.flight_memory(count), memory.resident, note)


def _request_figures(count: int, costs: ApiCosts) -> list[Figure]:
    checks = f"after the start, besides {costs.checks} check(s) of the whole"
    watches = f"{costs.watches_started} started, {costs.watches_open} open at once"
    return [
        Figure(figures.REQUESTS_A_TASK, costs.changes / count, f"{costs.refused} refused"),
        Figure(figures.READS, costs.reads, checks),
        Figure(figures.WATCHES, costs.watches_open, watches),
    ]


def _latency_figure(count: int, trickle: list[float], burst: list[float]) -> Figure:
    def both(latencies: list[float]) -> str:
        return f"p50 {percentile(latencies, 50) * 1000:.1f}, p99 {percentile(latencies, 99) * 1000:.1f} ms"

    note = f"{len(trickle)} of {count} in a trickle: {both(trickle)}; {len(burst)} at once: {both(burst)}"
    return Figure(figures.RESULT_LATENCY, percentile(trickle, 99) * 1000, note)


def _cpu_figure(count: int, cpu: Cpu, slowness: float) -> Figure:
    user, system = (seconds / count * 1000 for seconds in (cpu.user, cpu.system))
    note = (
        f"{count} tasks from assignment to deletion: user {user:.2f}, system {system:.2f} ms;"
        f" meanwhile the same work took {slowness:.1f} times its least CPU time"
    )
    return Figure(figures.CPU_A_TASK, user + system, note)
