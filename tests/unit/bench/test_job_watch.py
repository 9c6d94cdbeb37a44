from typing import Any

import pytest

from tests.bench.job_watch import job_ended


def job(*conditions: tuple[str, str]) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": kind, "status": status} for kind, status in conditions]}}


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        ({}, False),
        ({"status": {}}, False),
        ({"status": {"conditions": None}}, False),
        (job(("SuccessCriteriaMet", "True")), False),
        (job(("Complete", "False")), False),
        (job(("SuccessCriteriaMet", "True"), ("Complete", "True")), True),
        (job(("Failed", "True")), True),
    ],
)
def test_a_job_has_ended_with_its_last_condition_and_not_before(found: dict[str, Any], ended: bool) -> None:
    assert job_ended(found) is ended
