"""What is read from logs and marks, from files that a test writes."""

import json
from pathlib import Path

import pytest

from tests.chaos.kills import KillLedger
from tests.chaos.observer import Observer
from tests.chaos.records import Recorder

RUN = "0c4f0f4e-6f5b-4c67-a4f0-5f0f0f4e6f5b"


@pytest.fixture
def kills() -> KillLedger:
    return KillLedger()


@pytest.fixture
def observer(tmp_path: Path, kills: KillLedger) -> Observer:
    found = Observer(tmp_path, tmp_path / "ran.jsonl", kills)
    found.born("worker-001")
    found.born("control-plane-001")
    return found


def test_half_a_line_waits_for_its_end(observer: Observer, tmp_path: Path) -> None:
    log = tmp_path / "worker-001.log"
    log.write_text("Listening for")
    observer.look()
    assert not observer.listens("worker-001")
    log.write_text("Listening for tasks\n")
    observer.look()
    assert observer.listens("worker-001")


def test_marks_are_passages_kills_and_censuses(observer: Observer, kills: KillLedger, tmp_path: Path) -> None:
    lines = [
        {"t": 1.0, "pid": 1, "passed": "claim-sent"},
        {"t": 2.0, "pid": 1, "census": {"runs": 3}},
        {"t": 3.0, "pid": 1, "killed": "claim-sent", "run_id": RUN},
    ]
    (tmp_path / "worker-001.marks").write_text("".join(json.dumps(line) + "\n" for line in lines))
    observer.look()
    assert observer.passed == {"claim-sent": 1}
    assert observer.census == {"worker-001": {"runs": 3}}
    assert [(kill.step, kill.victim, kill.run_id) for kill in kills.kills] == [
        ("claim-sent", "worker-001", RUN)
    ]


def test_a_hello_and_a_log_line_about_the_run_are_its_recovery(
    observer: Observer, kills: KillLedger, tmp_path: Path
) -> None:
    kills.add("claim-sent", "worker-001", 1.0, RUN)
    (tmp_path / "control-plane-001.log").write_text("Z INFO worker chaos#1 said hello: version 1\n")
    observer.look()
    assert kills.kills[0].connected_at is not None
    assert kills.kills[0].went_on_at is None
    with (tmp_path / "control-plane-001.log").open("a") as log:
        log.write(f"Z INFO run {RUN} claimed by worker chaos#1\n")
    observer.look()
    assert kills.kills[0].went_on_at is not None


def test_the_last_log_lines_of_a_killed_process_are_read(observer: Observer, tmp_path: Path) -> None:
    (tmp_path / "worker-001.marks").write_text('{"t": 1.0, "pid": 1, "passed": "hello-sent"}\n')
    observer.died("worker-001")
    (tmp_path / "worker-001.marks").write_text('{"t": 1.0, "pid": 1, "passed": "claim-sent"}\n' * 2)
    observer.look()
    assert observer.passed == {"hello-sent": 1}


async def test_waiting_ends_with_what_was_waited_for(observer: Observer, tmp_path: Path) -> None:
    Recorder(tmp_path / "ran.jsonl").write("start", RUN, "e", "p")
    async with observer.following():
        assert await observer.until(lambda: bool(observer.records), 5.0)
        assert not await observer.until(lambda: len(observer.records) > 1, 0.01)
    assert [(r.event, r.task_id) for r in observer.records] == [("start", RUN)]
