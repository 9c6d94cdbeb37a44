import json
from dataclasses import replace

from tests.chaos.leaks import GROWTH, LeakResult, Level, leaks

CALM = Level({"tasks": 9, "sockets": 3}, 40.0)


def result(after: Level = CALM, tasks: int = 2000) -> LeakResult:
    return LeakResult(tasks=tasks, seconds=1.0, before={"worker": CALM}, after={"worker": after})


def test_levels_that_came_back_are_no_leak() -> None:
    assert leaks(result()) == []
    assert leaks(result(Level({"tasks": 8, "sockets": 2}, 30.0))) == []


def test_whatever_is_above_its_level_is_told() -> None:
    assert leaks(result(Level({"tasks": 9, "sockets": 4}, 40.0))) == ["worker: 3 sockets before, 4 after"]


def test_growth_is_counted_by_the_thousand() -> None:
    assert leaks(result(replace(CALM, memory=40.0 + 2 * GROWTH))) == []
    (found,) = leaks(result(replace(CALM, memory=40.0 + 2 * GROWTH + 0.1)))
    assert found == "worker: grew by 1.05 MiB in a thousand tasks"


def test_watches_leftovers_and_runs_that_did_not_succeed_count() -> None:
    other = result()
    other.watches, other.left, other.unfinished = (2, 3), ["Job j: active"], 1
    assert leaks(other) == ["Job j: active", "1 runs have not succeeded", "watches: 2 before, 3 after"]
    assert json.loads(other.summary())["leaks"] == leaks(other)
