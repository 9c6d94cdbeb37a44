import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.comparison import Bad, Comparison
from tests.chaos.kills import Kill
from tests.chaos.report import exit_code, findings, summary, table
from tests.chaos.run import Result
from tests.chaos.settings import SHORT

KILLS = [
    Kill("report-sent", "worker-001", 1.0, "r", connected_at=3.0),
    Kill("hello-sent", "worker-002", 4.0, "", connected_at=5.0),
]
BAD = Bad("r", "chaos 00001", "is still CLAIMED")


def result(**changes: object) -> Result:
    base = Result(
        settings=replace(SHORT, seed=7, tasks=3, kills=2),
        tasks=3,
        comparison=Comparison(),
        left_behind=[],
        kills=KILLS,
        unreached=[],
        unpassed=[],
        seconds=60.0,
        settled_in=2.0,
        folder=Path("logs"),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_the_last_line_has_all_that_a_program_asks_for() -> None:
    fields = json.loads(summary(result()))
    wanted = {
        "tasks": 3, "kills": 2, "lost": 0, "ran_twice": 0, "wrong_state": 0, "left_behind": 0,
        "recovery_p50_s": 2.0, "recovery_p99_s": 2.0, "seed": 7,
    }  # fmt: skip
    assert wanted.items() <= fields.items()
    assert "\n" not in summary(result())


@pytest.mark.parametrize(
    "changes",
    [
        {"comparison": Comparison(lost=[BAD])},
        {"comparison": Comparison(ran_twice=[BAD])},
        {"comparison": Comparison(wrong_state=[BAD])},
        {"left_behind": ["Job j: active"]},
        {"tasks": 2},
        {"kills": KILLS[:1]},
    ],
)
def test_a_broken_promise_and_a_run_that_did_too_little_exit_with_1(changes: dict[str, object]) -> None:
    assert exit_code(result()) == 0
    assert exit_code(result(**changes)) == 1


def test_degraded_runs_are_reported_and_are_no_failure() -> None:
    degraded = result(comparison=Comparison(degraded=[BAD]), unreached=["claim-sent"])
    assert exit_code(degraded) == 0
    assert findings(degraded) == [
        "degraded: run r (chaos 00001) is still CLAIMED",
        "no kill at: claim-sent",
    ]
    assert json.loads(summary(degraded))["degraded"] == 1


def test_many_of_a_kind_are_not_all_listed() -> None:
    lines = findings(result(comparison=Comparison(lost=[BAD] * 23)))
    assert len(lines) == 21
    assert lines[-1] == "lost: and 3 more"


def test_the_table_is_in_the_order_of_a_tasks_life() -> None:
    head, *rows = table(KILLS).splitlines()
    assert head.split() == ["step", "side", "kills", "p50", "s", "p99", "s"]
    assert [row.split() for row in rows] == [
        ["hello-sent", "worker", "1", "1.00", "1.00"],
        ["report-sent", "worker", "1", "2.00", "2.00"],
    ]
