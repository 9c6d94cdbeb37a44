from pathlib import Path
from typing import Any

from tests.chaos.cleanup import remaining_files, unexpected_objects

TASK = {"oz.warp.dev/task-id": "r"}


def job(end: str | None, *, task: bool = True, going: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "j", "uid": "u", "annotations": TASK if task else {}}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": end, "status": "True"}] if end else []
    return {"metadata": metadata, "status": {"conditions": conditions}}


def owned(uid: str) -> dict[str, Any]:
    return {"metadata": {"name": "x", "ownerReferences": [{"uid": uid}]}}


def test_a_failed_job_stays_with_all_that_it_owns() -> None:
    assert unexpected_objects([job("Failed")], [owned("u")], [owned("u")]) == []


def test_successful_active_and_half_deleted_jobs_should_not_be_there() -> None:
    assert unexpected_objects([job("Complete")], [], []) == ["Job j: Complete"]
    assert unexpected_objects([job(None)], [], []) == ["Job j: active"]
    assert unexpected_objects([job("Failed", going=True)], [], []) == ["Job j: Failed"]


def test_a_preflight_that_has_ended_removes_itself() -> None:
    assert unexpected_objects([job("Complete", task=False)], [], []) == []
    assert unexpected_objects([job(None, task=False)], [], []) == ["Job j: active"]


def test_pods_and_secrets_go_with_their_job() -> None:
    found = unexpected_objects(
        [job("Failed")], [owned("other")], [owned("other"), {"metadata": {"name": "y"}}]
    )
    assert found == ["Pod x: its Job is gone", "Secret x: its Job is gone", "Secret y: its Job is gone"]


def test_a_workspace_root_is_empty_but_for_hidden_folders(tmp_path: Path) -> None:
    assert remaining_files(tmp_path / "none") == []
    (tmp_path / ".journal").mkdir()
    for lasting in ("identity", "slot-0", "slot-12"):
        (tmp_path / ".journal" / lasting).touch()
    assert remaining_files(tmp_path) == []
    (tmp_path / "task").mkdir()
    (tmp_path / ".journal" / "record").touch()
    assert remaining_files(tmp_path) == [
        "left in the workspace root: .journal/record",
        "left in the workspace root: task",
    ]
