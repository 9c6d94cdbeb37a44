from pathlib import Path

from tests.chaos.story import story_of


def test_a_story_is_in_order_and_from_all_ledgers(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(
        '{"t": 1767225600.5, "what": "submitted", "run_id": "r1"}\n'
        '{"t": 1767225601.5, "what": "kill", "name": "worker-001"}\n'
        '{"t": 1767225601.6, "what": "submitted", "run_id": "r2"}\n'
        '{"t": 1767225699.0, "what": "kill", "name": "worker-002"}\n'
    )
    (tmp_path / "ran.jsonl").write_text('{"t": 1767225602.5, "event": "start", "task_id": "r1"}\n')
    (tmp_path / "worker-001.log").write_text(
        "2026-01-01T00:00:01Z INFO  Task r1/e assigned\n2026-01-01T00:00:01Z INFO  Task r2/e assigned\n"
    )
    lines = [(line.source, line.text) for line in story_of(tmp_path, "r1")]
    assert lines == [
        ("harness", '{"what": "submitted", "run_id": "r1"}'),
        ("worker-001", "INFO  Task r1/e assigned"),
        ("harness", '{"what": "kill", "name": "worker-001"}'),
        ("ran", '{"event": "start", "task_id": "r1"}'),
    ]


def test_a_run_that_no_ledger_names_has_no_story(tmp_path: Path) -> None:
    assert story_of(tmp_path, "r1") == []
