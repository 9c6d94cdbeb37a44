import json
from dataclasses import replace

from tests.chaos.levels import MEMORY, OBJECTS, LeakResult, Level, Span, leaks

CALM = Level({"tasks": 9, "sockets": 3}, 40.0, 300_000)


def result(after: Level = CALM, middle: Level = CALM, tasks: int = 2000) -> LeakResult:
    return LeakResult(
        wanted=2 * tasks,
        seconds=1.0,
        first={"worker": Span(tasks, CALM, middle)},
        second={"worker": Span(tasks, middle, after)},
    )


def test_levels_that_came_back_are_no_leak() -> None:
    assert leaks(result()) == []
    assert leaks(result(Level({"tasks": 8, "sockets": 2}, 30.0, 200_000))) == []


def test_everything_above_its_level_is_reported() -> None:
    high = replace(CALM, census={"tasks": 9, "sockets": 4})
    assert leaks(result(high)) == ["worker: 3 sockets before, 4 after"]


def test_a_count_that_rose_half_way_and_fell_again_is_no_leak() -> None:
    assert leaks(result(middle=replace(CALM, census={"tasks": 12, "sockets": 7}))) == []


def test_memory_that_grows_on_is_counted_by_the_thousand() -> None:
    assert leaks(result(replace(CALM, memory=40.0 + 2 * MEMORY))) == []
    (found,) = leaks(result(replace(CALM, memory=40.0 + 2 * MEMORY + 0.2)))
    assert found == f"worker: grew by {MEMORY + 0.1:.2f} MiB in a thousand tasks of the second half"


def test_a_cache_that_filled_in_the_first_half_is_no_leak() -> None:
    filled = replace(CALM, memory=60.0, objects=400_000)
    assert leaks(result(filled, middle=filled)) == []


def test_one_object_a_task_is_a_leak() -> None:
    assert leaks(result(replace(CALM, objects=300_000 + 2 * OBJECTS))) == []
    (found,) = leaks(result(replace(CALM, objects=302_000)))
    assert found == "worker: held 1000 objects more after a thousand tasks of the second half"


def test_watches_remaining_objects_and_runs_that_did_not_succeed_count() -> None:
    other = result()
    other.watches, other.left, other.unfinished = (2, 3), ["Job j: active"], 1
    assert leaks(other) == ["Job j: active", "1 runs have not succeeded", "watches: 2 before, 3 after"]


def test_tasks_that_had_no_time_count() -> None:
    assert leaks(replace(result(), wanted=4001)) == ["only 4000 of 4001 tasks had time"]


def test_the_summary_has_both_halves() -> None:
    line = json.loads(result(replace(CALM, memory=41.0), middle=replace(CALM, memory=44.0)).summary())
    assert line["tasks"] == 4000
    assert line["leaks"] == []
    assert line["worker"]["rss_mib"] == [40.0, 44.0, 41.0]
    assert line["worker"]["rss_growth_mib_per_1000"] == [2.0, -1.5]
    assert line["worker"]["objects_growth_per_1000"] == [0.0, 0.0]
    assert line["worker"]["before"] == {"tasks": 9, "sockets": 3}
