"""The leak check: many short tasks through one worker and one control plane, and nobody is killed.

After it, both hold what they held before: slots, asyncio tasks, sockets, descriptors, watches; the
cluster and this host hold nothing of the tasks; and memory has not grown with their number.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from tests.bench import procfs
from tests.chaos.kills import KillLedger
from tests.chaos.leftovers import cluster_leftovers, folder_leftovers, marked_processes
from tests.chaos.load import Load
from tests.chaos.observer import Observer
from tests.chaos.plan import End, TaskPlan
from tests.chaos.plane import PlaneClient
from tests.chaos.processes import Incarnation
from tests.chaos.progress import Progress
from tests.chaos.settings import Settings
from tests.chaos.stage import ChaosError, Stage, open_stage
from tests.chaos.supervisor import Events, Slot
from tests.cluster.apitier import ApiTier
from tests.cluster.asyncrest import AsyncRestClient

__all__ = ["GROWTH", "LeakResult", "Level", "leaks", "run_leak_check"]

#: MiB that a process may grow by in a thousand tasks, once it is warm.
GROWTH: Final = 1.0

#: So many tasks warm both processes up: pools, caches and the allocator's arenas have their size then.
_WARM_UP: Final = 500
_OPEN: Final = 150
#: Seconds in which pooled connections close, and the cluster's collectors finish.
_QUIET: Final = 60.0
_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Level:
    """What one process holds; memory in MiB."""

    census: Mapping[str, int]
    memory: float


@dataclass(slots=True)
class LeakResult:
    """Levels by process, before and after; ``left`` is what the cluster or this host still holds."""

    tasks: int
    seconds: float
    before: dict[str, Level]
    after: dict[str, Level]
    watches: tuple[int, int] = (0, 0)
    left: list[str] = field(default_factory=list)
    unfinished: int = 0

    def growth(self, name: str) -> float:
        """MiB that a process has grown by, a thousand tasks."""
        return (self.after[name].memory - self.before[name].memory) * 1000 / max(1, self.tasks)

    def summary(self) -> str:
        """The line of JSON."""
        fields: dict[str, Any] = {
            "tasks": self.tasks,
            "seconds": round(self.seconds, 1),
            "leaks": leaks(self),
            "watches": self.watches,
        }
        for name in self.before:
            fields[name] = {
                "before": dict(self.before[name].census),
                "after": dict(self.after[name].census),
                "rss_mib": [round(self.before[name].memory, 1), round(self.after[name].memory, 1)],
                "rss_growth_mib_per_1000": round(self.growth(name), 3),
            }
        return json.dumps(fields)


def leaks(result: LeakResult) -> list[str]:
    """Say what has not come back to its level. Pure."""
    found = list(result.left)
    if result.unfinished:
        found.append(f"{result.unfinished} runs have not succeeded")
    if result.watches[1] > result.watches[0]:
        found.append(f"watches: {result.watches[0]} before, {result.watches[1]} after")
    for name, before in result.before.items():
        after = result.after[name]
        for what, level in before.census.items():
            if after.census[what] > level:
                found.append(f"{name}: {level} {what} before, {after.census[what]} after")
        if result.growth(name) > GROWTH:
            found.append(f"{name}: grew by {result.growth(name):.2f} MiB in a thousand tasks")
    return found


def _short_tasks() -> Iterator[TaskPlan]:
    for number in count(1):
        yield TaskPlan(number=number, end=End.SUCCESS, seconds=0.0)


async def run_leak_check(
    settings: Settings, tier: ApiTier | None, folder: Path, progress: Progress
) -> LeakResult:
    """Run ``settings.leaks`` tasks, or as many as ``settings.minutes`` have room for."""
    async with open_stage(settings, tier, folder) as stage:
        check = _Check(stage, settings, progress)
        try:
            async with check.plane, check.observer.following():
                return await check.run()
        finally:
            await check.close()


class _Check:
    def __init__(self, stage: Stage, settings: Settings, progress: Progress) -> None:
        self._stage = stage
        self._settings = settings
        self._progress = progress
        self._events = Events(stage.folder)
        kills = KillLedger()
        self.observer = Observer(stage.folder, stage.record, kills)
        self.plane = PlaneClient(stage.url, stage.key)
        self._load = Load(self.plane, _short_tasks(), self._events, open_runs=_OPEN)
        self._slots = {
            kind.name: Slot(kind, iter(()), self.observer, kills, self._events)
            for kind in (stage.plane, stage.worker)
        }

    async def run(self) -> LeakResult:
        """Warm up, measure, run the tasks, wait until it is quiet, measure."""
        for slot in self._slots.values():
            await slot.start_unarmed()
        await self._tasks(_WARM_UP, lambda: False)
        before, watches = await self._quiet_levels(None), self._watches()
        began = time.monotonic()
        await self._tasks(
            _WARM_UP + self._settings.leaks,
            lambda: time.monotonic() - began > 60 * self._settings.minutes,
        )
        seconds = time.monotonic() - began
        after = await self._quiet_levels(before)
        result = LeakResult(
            tasks=self._load.submitted - _WARM_UP,
            seconds=seconds,
            before=before,
            after=after,
            watches=(watches, self._watches()),
            left=await self._left(),
            unfinished=sum(run.state != "SUCCEEDED" for run in await self.plane.runs()),
        )
        for slot in reversed(self._slots.values()):
            await slot.stop()
        result.left += marked_processes(self._stage.folder)
        return result

    async def close(self) -> None:
        """Leave no process behind, however it went."""
        await self._load.close()
        for slot in self._slots.values():
            if slot.current is not None:
                await slot.current.kill()
        self._events.close()

    async def _tasks(self, upto: int, late: Callable[[], bool]) -> None:
        """Submit until ``upto`` tasks were submitted in all, or it is late; wait for the last to end."""

        def over() -> bool:
            self._progress.say_now_and_then(f"{self._load.submitted} tasks submitted, {self._load.open} open")
            return self._load.submitted >= upto or late()

        await self._load.run(lambda: upto, over)
        await self._load.finish()
        while await self.plane.open_runs():
            await asyncio.sleep(_LOOK)

    async def _quiet_levels(self, wanted: Mapping[str, Level] | None) -> dict[str, Level]:
        """Measure until nothing stays behind and nothing is above ``wanted``, or time is up."""
        deadline = time.monotonic() + _QUIET
        while True:
            levels = {name: await self._level(slot.current) for name, slot in self._slots.items()}
            high = wanted is None or any(
                level.census[what] > wanted[name].census[what]
                for name, level in levels.items()
                for what in level.census
            )
            if time.monotonic() > deadline or (not high and not await self._left()):
                return levels
            self._progress.say_now_and_then("waiting until it is quiet")
            await asyncio.sleep(_LOOK)

    async def _level(self, process: Incarnation | None) -> Level:
        if process is None or process.code is not None:
            raise ChaosError("a process has ended that nobody killed")
        self.observer.census.pop(process.name, None)
        process.ask_census()
        if not await self.observer.until(lambda: process.name in self.observer.census, 10.0):
            raise ChaosError(f"{process.name} gives no census")
        return Level(self.observer.census[process.name], procfs.memory(process.pid).resident)

    def _watches(self) -> int:
        """How many watches of the worker the API server serves."""
        if self._stage.tier is None:
            return 0
        asked = self._stage.tier.audit(user="worker", verb="watch", namespace=self._stage.namespace)
        return sum(entry.stage == "ResponseStarted" for entry in asked)

    async def _left(self) -> list[str]:
        if self._stage.tier is None:
            return folder_leftovers(self._stage.folder / "workspaces")
        async with AsyncRestClient(self._stage.tier.connection(), user_agent="chaos") as api:
            return await cluster_leftovers(api, self._stage.namespace)
