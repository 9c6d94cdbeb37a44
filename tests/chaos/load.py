"""The load: submits what is planned at the pace of the kills, and cancels what shall be cancelled."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Final

from .comparison import Submission
from .plan import TaskPlan
from .plane import Ended, PlaneClient
from .supervisor import Events

__all__ = ["Load"]

_LOOK: Final = 0.5
#: Seconds between two looks at whether it is over, at least.
_SOON: Final = 0.01
#: So many runs are kept under way in any case, or the steps at which processes die were never reached.
_FEWEST_OPEN: Final = 6


class Load:
    """Submits runs, so that ``open_runs`` are under way at most.

    Every ``look`` seconds the control plane is asked how many there are.
    """

    def __init__(
        self, plane: PlaneClient, plans: Iterator[TaskPlan], events: Events, *, open_runs: int,
        look: float = _LOOK,
    ) -> None:  # fmt: skip
        self.open = 0
        self._look = look
        self._plane = plane
        self._plans = plans
        self._events = events
        self._most_open = open_runs
        self._submissions: dict[int, Submission] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._failure: BaseException | None = None

    @property
    def submissions(self) -> list[Submission]:
        """What was submitted, and answered."""
        return list(self._submissions.values())

    @property
    def submitted(self) -> int:
        """How many submissions have begun."""
        return self._begun

    async def run(self, allowed: Callable[[], int], over: Callable[[], bool]) -> None:
        """Submit until it is ``over``. ``allowed`` says how many may have been submitted by then.

        The control plane may be dead by then, and without a successor: its answer is not waited for.
        """
        while not over():
            self._check()
            counted = await self._open_runs(over)
            if counted is None:
                return
            self.open = counted
            room = self._most_open - self.open - self._unanswered
            wanted = max(allowed() - self._begun, _FEWEST_OPEN - self.open - self._unanswered)
            for _ in range(min(room, wanted)):
                self._begin(next(self._plans))
            await asyncio.sleep(self._look)

    async def _open_runs(self, over: Callable[[], bool]) -> int | None:
        """Ask how many runs are under way; ``None`` if it is over before there is an answer."""
        asking = asyncio.create_task(self._plane.open_runs())
        try:
            while not asking.done() and not over():
                await asyncio.wait((asking,), timeout=max(self._look, _SOON))
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()

    async def finish(self) -> None:
        """Wait until every submission and cancellation has its answer."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._check()

    async def close(self) -> None:
        """Give up what waits for an answer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _unanswered(self) -> int:
        return self._begun - len(self._submissions)

    def _begin(self, plan: TaskPlan) -> None:
        self._begun += 1
        task = asyncio.create_task(self._one(plan), name=plan.title)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._failure = self._failure or task.exception()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _one(self, plan: TaskPlan) -> None:
        run_id = await self._plane.submit(plan)
        self._submissions[plan.number] = Submission(plan, run_id)
        self._events.note("submitted", run_id=run_id, **dataclasses.asdict(plan))
        if plan.cancel_after is None:
            return
        await asyncio.sleep(plan.cancel_after)
        with contextlib.suppress(Ended):
            # From the first request on, a cancellation may take effect, answered or not.
            self._submissions[plan.number] = Submission(plan, run_id, cancelled=True)
            await self._plane.cancel(run_id)
            self._events.note("cancelled", run_id=run_id)
