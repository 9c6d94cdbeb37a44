"""Kills what runs and starts it again; makes the network and the API server fail."""

import asyncio
import itertools
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tests.cluster.api_tier import ApiTier
from tests.timeouts import HANG_TIMEOUT

from .kills import KillLedger
from .observer import Observer
from .plan import KillPlan
from .processes import Incarnation, Kind
from .stage import ChaosError, Stage
from .steps import Moment

__all__ = ["Events", "Slot", "break_connections", "restart_api_server"]

#: Seconds that a process may take to come up, and then to reach the step at which it is to die;
#: on a slow machine these and the next are so many times longer (``Stage.pace``).
_STARTS: Final = 30.0
_PATIENCE: Final = 8.0
#: Seconds after which the next process dies though the last death is not recovered from.
_RECOVERS: Final = 20.0
#: The exit code of a worker whose preflight failed, and seconds until it is started again.
_CANNOT_START: Final = 3
_START_AGAIN: Final = 1.0
#: Exit codes after SIGTERM: one that had not come as far as to handle it ends by it.
_STOPPED: Final = (0, -signal.SIGTERM, _CANNOT_START)


class Events:
    """What the harness did, a line of JSON each, for the story of a run that went wrong.

    ``outages`` are the times at which the API server was killed (epoch seconds).
    """

    def __init__(self, folder: Path) -> None:
        self.outages: list[float] = []
        self._file = (folder / "events.jsonl").open("a", buffering=1)

    def note(self, what: str, **fields: Any) -> None:
        """Write one event, with the time."""
        self._file.write(json.dumps({"t": round(time.time(), 3), "what": what, **fields}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Slot:
    """One place in which a program runs: killed as planned, and started again.

    ``current`` is the process that runs there. Every process has its own number.
    """

    def __init__(
        self, kind: Kind, plans: Iterator[KillPlan], observer: Observer, kills: KillLedger, events: Events,
        numbers: Iterator[int] | None = None, pace: float = 1.0,
    ) -> None:  # fmt: skip
        self.current: Incarnation | None = None
        self._kind = kind
        self._plans = plans
        self._observer = observer
        self._kills = kills
        self._events = events
        self._numbers = numbers or itertools.count(1)
        self._pace = pace

    async def start(self, plan: KillPlan | None = None) -> Incarnation:
        """Start the program."""
        self.current = await Incarnation.start(self._kind, next(self._numbers), plan)
        self._observer.born(self.current.name)
        armed = f"{plan.step.name}:{plan.count}" if plan else ""
        self._events.note("start", name=self.current.name, pid=self.current.pid, armed=armed)
        return self.current

    async def start_unarmed(self) -> Incarnation:
        """Start the program to stay; return once it is connected, or listens.

        Raises:
            ChaosError: it does not come up.
        """
        deadline = time.monotonic() + HANG_TIMEOUT
        while True:
            process = await self.start()
            if await self._listens(process, HANG_TIMEOUT):
                return process
            if process.code != _CANNOT_START or time.monotonic() > deadline:
                raise ChaosError(f"{process.name} did not come up: {process.describe_end()}")
            self._observer.died(process.name)
            await self._could_not_start(process)

    async def stop(self) -> None:
        """End the current process with SIGTERM."""
        process, self.current = self.current, None
        if process is None or process.code is not None:
            return
        self._events.note("stop", name=process.name)
        await process.stop()
        self._observer.died(process.name)
        if not process.was_killed and process.code not in _STOPPED:
            raise ChaosError(f"{process.name} ended by itself: {process.describe_end()}")

    async def live_and_die(self) -> None:
        """One turn: start the next process, see it die, wait for the planned pause."""
        plan = next(self._plans)
        process = await self.start(plan)
        if not plan.at_once and await self._listens(process, _STARTS * self._pace):
            await self._observer.until(lambda: not self._kills.recovering, _RECOVERS * self._pace)
            process.arm()
        if plan.step.moment is Moment.OUTSIDE:
            await self._watch(process, plan)
        else:
            if process.code is None and not await process.ended(_PATIENCE * self._pace):
                await self._kill(process, f"{plan.step.side}-any-moment")
        self._observer.died(process.name)
        if process.was_killed:
            self._events.note("dead", name=process.name)
            await asyncio.sleep(plan.pause)
        elif process.code == _CANNOT_START:
            await self._could_not_start(process)
        else:
            raise ChaosError(f"{process.name} ended by itself: {process.describe_end()}")

    async def _could_not_start(self, process: Incarnation) -> None:
        """What starts workers starts them again: the API server was away, or not itself yet."""
        self._events.note("could not start", name=process.name)
        await asyncio.sleep(_START_AGAIN)

    async def _watch(self, process: Incarnation, plan: KillPlan) -> None:
        """Kill at a step that is seen from outside."""
        run_id = ""
        if plan.step.name == "worker-starting":
            await asyncio.sleep(2.5 * plan.delay)
        else:
            event = {"task-running": "start", "task-ended": "end"}.get(plan.step.name)
            if event is None:
                await asyncio.sleep(3 * plan.delay)
            else:
                run_id = await self._next_record(event)
                await asyncio.sleep(plan.delay / 10)
        await self._kill(process, plan.step.name, run_id)

    async def _next_record(self, event: str) -> str:
        seen = len(self._observer.records)

        def found() -> list[str]:
            return [r.task_id for r in self._observer.records[seen:] if r.event == event]

        await self._observer.until(lambda: bool(found()), _PATIENCE * self._pace)
        return next(iter(found()), "")

    async def _kill(self, process: Incarnation, step: str, run_id: str = "") -> None:
        if process.code is None:
            self._kills.add(step, process.name, time.time(), run_id)
            self._events.note("kill", name=process.name, step=step, run_id=run_id)
        await process.kill()

    async def _listens(self, process: Incarnation, timeout: float) -> bool:
        """Wait until it is up, or has ended."""
        ending = asyncio.create_task(process.ended(timeout))
        listening = asyncio.create_task(
            self._observer.until(lambda: self._observer.listens(process.name), timeout)
        )
        await asyncio.wait((ending, listening), return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, listening):
            task.cancel()
        return self._observer.listens(process.name)


async def break_connections(stage: Stage, rng: random.Random, events: Events) -> None:
    """Let one thing after another happen to the connections, until cancelled."""
    losses = stage.settings.half_open
    while True:
        await asyncio.sleep(rng.uniform(2.5, 7.0))
        name, proxy = rng.choice((("link", stage.link), ("link", stage.link), ("api", stage.api)))
        what = rng.choice(("cut", "cut", "refuse", "stall", "delay", "lose"))
        if what == "lose" and not losses:
            what = "cut"
        seconds = rng.uniform(0.2, 2.5)
        events.note(what, proxy=name, seconds=round(seconds, 2), connections=proxy.connections)
        match what:
            case "cut":
                proxy.cut()
            case "refuse":
                await proxy.refuse(seconds)
            case "stall":
                await proxy.stall(seconds)
            case "delay":
                await proxy.delay(rng.uniform(0.01, 0.2), seconds)
            case "lose":
                losses -= 1
                proxy.lose_servers()


async def restart_api_server(
    stage: Stage, rng: random.Random, events: Events, progress: Callable[[], float]
) -> None:
    """Restart the API server as often as the settings say, spread over the run.

    ``progress`` says how much of the run is over, from 0 to 1.
    """
    if stage.tier is None:
        return
    times = stage.settings.api_restarts
    for number in range(times):
        due = (number + rng.uniform(0.3, 0.9)) / times
        while progress() < due:
            await asyncio.sleep(0.2)
        away = rng.uniform(0.5, 4.0)
        events.outages.append(time.time())
        events.note("API server stops", seconds=round(away, 2))
        outage = asyncio.create_task(_outage(stage.tier, away))
        try:
            await asyncio.shield(outage)
        except asyncio.CancelledError:
            await outage  # no run settles without its API server
            raise
        events.note("API server is back")


async def _outage(tier: ApiTier, seconds: float) -> None:
    await asyncio.to_thread(tier.stop_apiserver)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(tier.start_apiserver)
