"""The fault points, on functions of this module."""

import json
import sys
from types import SimpleNamespace

import pytest

from tests.chaos.faults import install, resolve, subject_of
from tests.chaos.steps import Moment, Side, Step

HERE = __name__


class Target:
    """Stands for a class of the product."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def plain(self, what: str) -> str:
        """A function."""
        self.calls.append(what)
        return what.upper()

    async def waiting(self, what: str) -> str:
        """A coroutine function."""
        self.calls.append(what)
        return what.upper()


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> type[Target]:
    fresh = type("Fresh", (Target,), {"plain": Target.plain, "waiting": Target.waiting})
    monkeypatch.setattr(sys.modules[HERE], "Fresh", fresh, raising=False)
    return fresh


def step(name: str, moment: Moment, function: str, frame: str = "") -> Step:
    return Step(name, Side.WORKER, moment, f"{HERE}:Fresh.{function}", frame=frame)


async def test_passages_are_reported_before_and_after(target: type[Target]) -> None:
    seen: list[str] = []
    steps = [
        step("before", Moment.BEFORE, "plain"),
        step("after", Moment.AFTER, "plain"),
        step("async before", Moment.BEFORE, "waiting"),
        step("async after", Moment.AFTER, "waiting"),
    ]
    one = target()
    install(steps, lambda passed, run_id: seen.append(f"{passed.name} {len(one.calls)}"))

    assert one.plain("a") == "A"
    assert await one.waiting("b") == "B"
    assert seen == ["before 0", "after 1", "async before 1", "async after 2"]


def test_a_step_of_a_frame_is_passed_by_frames_of_that_type_alone(target: type[Target]) -> None:
    seen: list[tuple[str, str]] = []
    steps = [
        step("claim", Moment.BEFORE, "plain", frame="task_claimed"),
        step("report", Moment.BEFORE, "plain", frame="terminal"),
    ]
    install(steps, lambda passed, run_id: seen.append((passed.name, run_id)))

    one = target()
    for kind in ("worker_hello", "task_claimed", "task_failed", "task_completed"):
        one.plain(json.dumps({"type": kind, "data": {"task_id": f"of {kind}"}}))
    one.plain("no frame at all")
    expected = [("claim", "of task_claimed"), ("report", "of task_failed"), ("report", "of task_completed")]
    assert seen == expected


def test_what_is_raised_is_raised_and_nothing_counts_as_done(target: type[Target]) -> None:
    seen: list[str] = []
    install([step("after", Moment.AFTER, "plain")], lambda passed, run_id: seen.append(passed.name))

    with pytest.raises(AttributeError):
        target().plain(3)  # type: ignore[arg-type]
    assert seen == []


def test_a_target_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError):
        resolve(f"{HERE}:Target.nothing")


@pytest.mark.parametrize(
    ("argument", "run_id"),
    [
        (SimpleNamespace(task_id="r"), "r"),
        (SimpleNamespace(key=SimpleNamespace(task_id="r")), "r"),
        (SimpleNamespace(assignment=SimpleNamespace(task_id="r")), "r"),
        ({"metadata": {"annotations": {"oz.warp.dev/task-id": "r"}}}, "r"),
        ((SimpleNamespace(key=SimpleNamespace(task_id="r")),), "r"),
        ('{"type": "ack", "data": {"ack_id": "r/e#1"}}', "r"),
        ("{", ""),
        ({"metadata": {}}, ""),
        (7, ""),
    ],
)
def test_the_run_is_read_from_whatever_shows_it(argument: object, run_id: str) -> None:
    assert subject_of([object(), argument]) == run_id
