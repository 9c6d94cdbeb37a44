"""A run: chaos for a while, then quiet, then the comparison of the ledgers."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient

from .cleanup import remaining_files, remaining_objects, remaining_processes
from .comparison import AFTERMATH, TERMINAL, Comparison, RunView, compare
from .kills import Kill, KillLedger
from .load import Load
from .mutants import MUTANTS
from .observer import Observer
from .plan import kill_plans, task_plans
from .plane import PlaneClient
from .progress import Progress
from .settings import Settings
from .stage import Stage, open_stage
from .steps import Side, find, steps_of
from .supervisor import Events, Slot, break_connections, restart_api_server

__all__ = ["Result", "run_chaos"]

#: How many runs are submitted before the first process dies.
_HEAD_START: Final = 6
_LOOK: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run has shown. ``unreached`` are the steps at which nothing was killed, ``unpassed``
    those that no process ever came by; ``folder`` has the logs.
    """

    settings: Settings
    tasks: int
    comparison: Comparison
    left_behind: list[str]
    kills: list[Kill]
    unreached: list[str]
    unpassed: list[str]
    seconds: float
    settled_in: float
    folder: Path


async def run_chaos(settings: Settings, tier: ApiTier | None, folder: Path, progress: Progress) -> Result:
    """Do one whole run; files go to ``folder``."""
    began = time.monotonic()
    async with open_stage(settings, tier, folder) as stage:
        chaos = _Chaos(stage, progress)
        try:
            async with chaos.plane, chaos.observer.following():
                await chaos.begin()
                await chaos.rage()
                return await chaos.settle(began)
        finally:
            await chaos.close()


class _Chaos:
    """The parts of a run, and what each phase does with them."""

    def __init__(self, stage: Stage, progress: Progress) -> None:
        settings = stage.settings
        self._stage = stage
        self._settings = settings
        self._progress = progress
        self._rng = random.Random(settings.seed)
        self._events = Events(stage.folder)
        self._kills = KillLedger()
        self.observer = Observer(stage.folder, stage.record, self._kills)
        self.plane = PlaneClient(stage.url, stage.key)
        backend = settings.backend
        plans = task_plans(self._random(), backend, plain=settings.mutant is not None)
        self._load = Load(self.plane, plans, self._events, open_runs=settings.open_runs)
        numbers = count(1)
        favourites = self._favourites = MUTANTS[settings.mutant].shown_by if settings.mutant else ()
        deck = kill_plans(self._random(), Side.WORKER, backend, favourites)
        self._workers = [
            Slot(stage.worker, deck, self.observer, self._kills, self._events, numbers, stage.pace)
            for _ in range(2)
        ]
        planes = kill_plans(self._random(), Side.CONTROL_PLANE, backend, favourites)
        self._plane_slot = Slot(
            stage.plane, planes, self.observer, self._kills, self._events, pace=stage.pace
        )
        self._raging_since = 0.0

    def _random(self) -> random.Random:
        """A source of its own for each part: what one draws changes nothing for another."""
        return random.Random(self._rng.randrange(2**63))

    # ---------------------------------------------------------------------------- phases

    async def begin(self) -> None:
        """Start a control plane and a worker, to stay."""
        await self._plane_slot.start_unarmed()
        await self._workers[0].start_unarmed()

    async def rage(self) -> None:
        """Submit and kill until there was enough of both, or the time is over."""
        self._raging_since = time.monotonic()
        await self._plane_slot.stop()
        await self._workers[0].stop()
        submitting = asyncio.create_task(self._load.run(self._allowed, lambda: self._is_over), name="load")
        parts = [
            submitting,
            asyncio.create_task(self._kill_planes(), name="planes"),
            asyncio.create_task(self._kill_workers(), name="workers"),
            asyncio.create_task(self._second_workers(self._random()), name="second workers"),
            asyncio.create_task(self._report_progress(), name="progress"),
        ]
        network, servers = self._random(), self._random()
        restarting = restart_api_server(self._stage, servers, self._events, lambda: self._share)
        disturbances = [asyncio.create_task(restarting, name="API server")]
        if self._settings.network_trouble:
            failing = break_connections(self._stage, network, self._events)
            disturbances.append(asyncio.create_task(failing, name="network"))
        try:
            async with _ended_with(disturbances):
                await _first_failure(parts)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def settle(self, began: float) -> Result:
        """Let everything come to its end, without faults, and compare."""
        self._events.note("settling")
        since = time.monotonic()
        await asyncio.gather(*(slot.stop() for slot in (self._plane_slot, *self._workers)))
        await self._plane_slot.start_unarmed()
        await self._workers[0].start_unarmed()
        left, runs = await self._until_settled(since + self._settings.settle * self._stage.pace)
        settled_in = time.monotonic() - since
        await asyncio.gather(*(slot.stop() for slot in (self._plane_slot, self._workers[0])))
        left += remaining_processes(self._stage.folder)
        self.observer.look()
        comparison = compare(
            self._load.submissions, self.observer.records, runs,
            backend=self._settings.backend, outages=self._events.outages,
            aftermath=AFTERMATH * self._stage.pace,
        )  # fmt: skip
        killed = {kill.step for kill in self._kills.kills}
        steps = [step for side in Side for step in steps_of(side, self._settings.backend)]
        return Result(
            settings=self._settings,
            tasks=len(self._load.submissions),
            comparison=comparison,
            left_behind=left,
            kills=self._kills.kills,
            unreached=[step.name for step in steps if step.name not in killed],
            unpassed=self._unpassed(),
            seconds=time.monotonic() - began,
            settled_in=settled_in,
            folder=self._stage.folder,
        )

    async def close(self) -> None:
        """Leave no process behind, however the run went."""
        await self._load.close()
        for slot in (self._plane_slot, *self._workers):
            if slot.current is not None:
                await slot.current.kill()
        self._events.close()

    # ------------------------------------------------------------------------ while it rages

    @property
    def _share(self) -> float:
        """How much of the run is over, from 0 to 1."""
        settings = self._settings
        by_time = (time.monotonic() - self._raging_since) / (60 * settings.minutes)
        by_kills = len(self._kills) / settings.kills if settings.kills else 1.0
        return min(1.0, max(by_time, by_kills))

    @property
    def _is_over(self) -> bool:
        """Whether there was enough of everything, or the time is over."""
        settings = self._settings
        if time.monotonic() - self._raging_since > 60 * settings.minutes:
            return True
        if len(self._kills) < settings.kills or self._load.submitted < settings.tasks:
            return False
        return bool(self._favourites) or all(find(name).rare for name in self._unpassed())

    def _unpassed(self) -> list[str]:
        """The steps that no process has come by so far."""
        steps = (step for side in Side for step in steps_of(side, self._settings.backend))
        return [step.name for step in steps if step.target and step.name not in self.observer.passed]

    def _allowed(self) -> int:
        return _HEAD_START + int(self._share * self._settings.tasks)

    async def _kill_planes(self) -> None:
        await self._kill(self._plane_slot, Side.CONTROL_PLANE)

    async def _kill_workers(self) -> None:
        await self._kill(self._workers[0], Side.WORKER)

    async def _kill(self, slot: Slot, side: Side) -> None:
        """Kill the process of a slot again and again; skip kills where a mutant is on the other side."""
        if self._favourites and not any(find(name).side is side for name in self._favourites):
            await slot.start_unarmed()
            return
        while not self._is_over:
            await slot.live_and_die()

    async def _second_workers(self, rng: random.Random) -> None:
        """From time to time a second worker with the same ID: killed too, or rolled."""
        second = self._workers[1]
        while not self._is_over and not self._favourites:
            await asyncio.sleep(rng.uniform(2.0, 8.0))
            if rng.random() < 0.5:
                await second.live_and_die()
            else:
                await second.start()
                await asyncio.sleep(rng.uniform(3.0, 8.0))
                await second.stop()

    async def _report_progress(self) -> None:
        while not self._is_over:
            self._progress.report(self._load.submitted, self._load.open, len(self._kills), self._settings)
            await asyncio.sleep(1.0)

    # ----------------------------------------------------------------------- when it is over

    async def _until_settled(self, deadline: float) -> tuple[list[str], list[RunView]]:
        """Wait until every run has ended and nothing is left; return what is, and all runs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                await self._load.finish()
        async with self._api() as api:
            while True:
                runs = await self.plane.runs()
                open_runs = [run for run in runs if run.state not in TERMINAL]
                left = [] if open_runs else await self._left(api)
                if (not open_runs and not left) or time.monotonic() > deadline:
                    return left or await self._left(api), runs
                self._progress.settling(len(open_runs), len(left))
                await asyncio.sleep(_LOOK)

    @asynccontextmanager
    async def _api(self) -> AsyncIterator[AsyncRestClient | None]:
        if self._stage.tier is None:
            yield None
            return
        async with AsyncRestClient(self._stage.tier.connection(), user_agent="chaos") as api:
            yield api

    async def _left(self, api: AsyncRestClient | None) -> list[str]:
        left = await self._held_by_worker()
        if api is not None:
            left += await remaining_objects(api, self._stage.namespace)
        else:
            left += remaining_files(self._stage.folder / "workspaces")
        return left

    async def _held_by_worker(self) -> list[str]:
        """What the worker itself says that it has in its hands."""
        worker = self._workers[0].current
        if worker is None or worker.code is not None:
            return ["the worker has ended"]
        self.observer.census.pop(worker.name, None)
        worker.ask_census()
        await self.observer.until(lambda: worker.name in self.observer.census, 5.0 * self._stage.pace)
        runs = self.observer.census.get(worker.name, {}).get("runs")
        return [] if runs == 0 else [f"executions in the worker's hands: {runs}"]


@asynccontextmanager
async def _ended_with(tasks: "list[asyncio.Task[None]]") -> AsyncIterator[None]:
    """Let tasks go on beside the block, and no longer; what they raise, the block's end raises."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _first_failure(tasks: "list[asyncio.Task[None]]") -> None:
    """Wait until all have ended, or one has failed, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
