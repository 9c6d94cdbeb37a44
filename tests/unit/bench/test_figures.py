import json

import pytest

from tests.bench.figures import (
    BURST_RATIO,
    CPU_A_TASK,
    START,
    WATCHES,
    Figure,
    flight_memory,
    percentile,
    summary,
    table,
)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure(START, 0.4), "ok"),
        (Figure(START, 1.0), "ok"),
        (Figure(START, 1.0001), "short"),
        (Figure(BURST_RATIO, 0.8), "ok"),
        (Figure(BURST_RATIO, 0.79), "short"),
        (Figure(WATCHES, 3), "short"),
    ],
)
def test_a_verdict_shows_whether_the_value_meets_its_budget(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict


@pytest.mark.parametrize(
    ("tasks", "limit"), [(1, 64), (500, 64), (1000, 64), (1001, 128), (5000, 128), (9000, 128)]
)
def test_memory_has_the_budget_of_the_next_number_that_has_one(tasks: int, limit: float) -> None:
    assert flight_memory(tasks).limit == limit


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 1) == percentile([7.0], 99) == 7.0


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_summary_is_one_line_that_a_program_can_read() -> None:
    line = summary([Figure(CPU_A_TASK, 3.00049, "500 tasks")], {"cpus": 2}, "1.2.3")
    assert "\n" not in line
    assert json.loads(line) == {
        "figures": [
            {
                "figure": "CPU a task",
                "value": 3.0,
                "unit": "ms",
                "budget": 3,
                "bound": "at most",
                "verdict": "short",
                "note": "500 tasks",
            }
        ],
        "machine": {"cpus": 2},
        "version": "1.2.3",
    }


def test_the_table_has_a_line_a_figure_under_a_head() -> None:
    head, first, second = table([Figure(START, 0.5123), Figure(BURST_RATIO, 0.7, "why")]).splitlines()
    assert head.split()[:2] == ["figure", "value"]
    assert first.split("  ")[0] == "start to listening"
    assert "0.5123" in first
    assert first.endswith("ok")
    assert "≥ 0.8" in second
    assert second.endswith("short    why")
