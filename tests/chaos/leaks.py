"""The leak check: many short tasks through one worker and one control plane, without kills.

After it, both hold what they held before: slots, asyncio tasks, sockets, descriptors, watches; the
cluster and this host hold nothing of the tasks; and memory no longer grows with their number.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Final

from tests.bench import procfs
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient

from .cleanup import remaining_files, remaining_objects, remaining_processes
from .kills import KillLedger
from .levels import LeakResult, Level, Span
from .load import Load
from .observer import Observer
from .plan import End, TaskPlan
from .plane import PlaneClient
from .processes import Incarnation
from .progress import Progress
from .settings import Settings
from .stage import ChaosError, Stage, open_stage
from .supervisor import Events, Slot

__all__ = ["Pace", "run_leak_check"]

#: So many tasks warm both processes up: pools and the allocator's arenas have their size then.
_WARM_UP: Final = 500
_OPEN: Final = 150
#: Seconds between two looks at what is open. Each makes the control plane list all of it.
_REFILL: Final = 2.0
#: Seconds in which pooled connections close, and the cluster's collectors finish.
_QUIET: Final = 60.0
_LOOK: Final = 1.0


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


class Pace:
    """How far the tasks are, and how long they will take. ``began`` and ``now`` are in seconds, monotonic."""

    def __init__(self, done: int, wanted: int, began: float) -> None:
        self._done = done
        self._wanted = wanted
        self._began = began

    def line(self, submitted: int, open_runs: int, now: float) -> str:
        """Say it; ``open_runs`` of the ``submitted`` have not ended."""
        text = f"{submitted} of {self._wanted} tasks submitted, {open_runs} under way"
        ended, seconds = submitted - open_runs - self._done, now - self._began
        if ended <= 0 or seconds <= 0:
            return text
        minutes = (self._wanted - submitted + open_runs) * seconds / ended / 60
        return f"{text}, {ended / seconds:.1f} a second, {minutes:.1f} min to go"


class _Check:
    def __init__(self, stage: Stage, settings: Settings, progress: Progress) -> None:
        self._stage = stage
        self._settings = settings
        self._progress = progress
        self._events = Events(stage.folder)
        kills = KillLedger()
        self.observer = Observer(stage.folder, stage.record, kills)
        self.plane = PlaneClient(stage.url, stage.key)
        self._load = Load(self.plane, _short_tasks(), self._events, open_runs=_OPEN, look=_REFILL)
        self._slots = {
            kind.name: Slot(kind, iter(()), self.observer, kills, self._events)
            for kind in (stage.plane, stage.worker)
        }

    async def run(self) -> LeakResult:
        """Warm up, then run the tasks in two halves; measure before, between and after them."""
        for slot in self._slots.values():
            await slot.start_unarmed()
        wanted = self._settings.leaks
        await self._tasks(_WARM_UP, 60 * self._settings.minutes)
        before, watches = await self._quiet_levels(None), self._watches()
        first, middle, seconds = await self._half(wanted // 2, 30 * self._settings.minutes, before)
        second, after, more = await self._half(wanted, 60 * self._settings.minutes - seconds, before)
        result = LeakResult(
            wanted=wanted,
            seconds=seconds + more,
            first={name: Span(first, before[name], middle[name]) for name in before},
            second={name: Span(second, middle[name], after[name]) for name in before},
            watches=(watches, self._watches()),
            left=await self._left(),
            unfinished=sum(run.state != "SUCCEEDED" for run in await self.plane.runs()),
        )
        for slot in reversed(self._slots.values()):
            await slot.stop()
        result.left += remaining_processes(self._stage.folder)
        return result

    async def close(self) -> None:
        """Leave no process behind, however it went."""
        await self._load.close()
        for slot in self._slots.values():
            if slot.current is not None:
                await slot.current.kill()
        self._events.close()

    async def _half(
        self, upto: int, limit: float, before: Mapping[str, Level]
    ) -> tuple[int, dict[str, Level], float]:
        """Run tasks until there were ``upto`` after the warm-up, or for ``limit`` seconds.

        Returns how many it ran, the levels after them, and the seconds that the tasks took.
        """
        submitted, began = self._load.submitted, time.monotonic()
        await self._tasks(_WARM_UP + upto, limit)
        seconds = time.monotonic() - began
        return self._load.submitted - submitted, await self._quiet_levels(before), seconds

    async def _tasks(self, upto: int, limit: float) -> None:
        """Submit until ``upto`` tasks were submitted in all, or the time is up; wait for the last to end."""
        began = time.monotonic()
        pace = Pace(self._load.submitted, upto, began)

        def over() -> bool:
            now = time.monotonic()
            self._progress.say_now_and_then(pace.line(self._load.submitted, self._load.open, now))
            return self._load.submitted >= upto or now - began > limit

        await self._load.run(lambda: upto, over)
        await self._load.finish()
        while await self.plane.open_runs():
            await asyncio.sleep(_LOOK)

    async def _quiet_levels(self, wanted: Mapping[str, Level] | None) -> dict[str, Level]:
        """Measure until nothing stays behind and no count is above ``wanted``, or time is up."""
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
        census = dict(self.observer.census[process.name])
        objects = census.pop("objects")
        return Level(census, procfs.memory(process.pid).resident, objects)

    def _watches(self) -> int:
        """How many watches of the worker the API server serves."""
        if self._stage.tier is None:
            return 0
        asked = self._stage.tier.audit(user="worker", verb="watch", namespace=self._stage.namespace)
        return sum(entry.stage == "ResponseStarted" for entry in asked)

    async def _left(self) -> list[str]:
        if self._stage.tier is None:
            return remaining_files(self._stage.folder / "workspaces")
        async with AsyncRestClient(self._stage.tier.connection(), user_agent="chaos") as api:
            return await remaining_objects(api, self._stage.namespace)
