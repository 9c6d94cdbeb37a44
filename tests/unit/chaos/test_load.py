"""The load, before a control plane that is played."""

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from tests.chaos.load import Load
from tests.chaos.plan import End, TaskPlan
from tests.chaos.plane import Ended, PlaneClient
from tests.chaos.supervisor import Events
from tests.timeouts import HANG_TIMEOUT


class Plane:
    """Answers at once, and remembers."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.over: set[str] = set()
        self.open = 0

    async def submit(self, plan: TaskPlan) -> str:
        return f"run {plan.number}"

    async def cancel(self, run_id: str) -> None:
        if run_id in self.over:
            raise Ended
        self.cancelled.append(run_id)

    async def open_runs(self) -> int:
        return self.open


@pytest.fixture
def plane() -> Plane:
    return Plane()


def plans(**changes: Any) -> Iterator[TaskPlan]:
    for number in count(1):
        yield TaskPlan(number=number, end=End.SUCCESS, seconds=0.0, **changes)


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    written = Events(tmp_path)
    yield written
    written.close()


def loaded(plane: Plane, events: Events, tasks: Iterator[TaskPlan], open_runs: int = 100) -> Load:
    return Load(cast("PlaneClient", plane), tasks, events, open_runs=open_runs, look=0.0)


async def run(load: Load, upto: int, looks: int = 20) -> None:
    left = iter(range(looks))
    await load.run(lambda: upto, lambda: next(left, None) is None)
    await load.finish()


async def test_no_more_is_submitted_than_allowed(plane: Plane, events: Events) -> None:
    plane.open = 10
    load = loaded(plane, events, plans())
    await run(load, upto=25)
    assert load.submitted == 25
    assert [s.run_id for s in load.submissions][:2] == ["run 1", "run 2"]


async def test_no_more_is_open_than_there_may_be(plane: Plane, events: Events) -> None:
    plane.open = 8
    load = loaded(plane, events, plans(), open_runs=8)
    await run(load, upto=25)
    assert load.submitted == 0


async def test_the_end_does_not_wait_for_a_control_plane_that_is_dead(plane: Plane, events: Events) -> None:
    dead = asyncio.Event()
    asked = asyncio.Event()

    async def open_runs() -> int:
        asked.set()
        await dead.wait()
        return 0

    plane.open_runs = open_runs  # type: ignore[method-assign]
    load = loaded(plane, events, plans())
    async with asyncio.timeout(HANG_TIMEOUT):
        await load.run(lambda: 25, asked.is_set)
    assert load.submitted == 0


async def test_cancellations_are_asked_for_and_remembered(plane: Plane, events: Events) -> None:
    plane.open, plane.over = 10, {"run 2"}
    load = loaded(plane, events, plans(cancel_after=0.0))
    await run(load, upto=2)
    assert plane.cancelled == ["run 1"]
    assert all(s.cancelled for s in load.submissions), "one that comes too late may still count"


async def test_what_goes_wrong_is_raised(
    plane: Plane, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(plan: TaskPlan) -> str:
        await asyncio.sleep(0)
        raise AssertionError("refused")

    monkeypatch.setattr(plane, "submit", refuse)
    with pytest.raises(AssertionError, match="refused"):
        await run(loaded(plane, events, plans()), upto=1)
