"""How full a namespace's quotas are."""

from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.preflight.namespace_checks import (
    is_pod_security,
    judge_quotas,
)
from oz_agent_worker.worker.checks import Severity


def quota(name: str, hard: dict[str, str], used: dict[str, str] | None) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"hard": hard, "used": used}}


def test_without_quotas_there_is_room() -> None:
    assert judge_quotas((), "agents").detail == "none"


def test_quota_usage_is_shown() -> None:
    result = judge_quotas(
        (quota("q", {"pods": "10", "limits.cpu": "4"}, {"pods": "3", "limits.cpu": "1500m"}),), "a"
    )
    assert (result.severity, result.detail) == (Severity.OK, "limits.cpu 1500m/4, pods 3/10")


@pytest.mark.parametrize(
    ("hard", "used"),
    [
        ({"pods": "3"}, {"pods": "3"}),
        ({"pods": "0"}, None),
        ({"count/jobs.batch": "1k"}, {"count/jobs.batch": "1000"}),
    ],
)
def test_a_full_quota_fails_with_a_way_out(hard: dict[str, str], used: dict[str, str] | None) -> None:
    result = judge_quotas((quota("roomy", {"pods": "9"}, {}), quota("small", hard, used)), "agents")
    assert result.severity is Severity.FAIL
    assert result.detail.startswith("`small` is full: ")
    assert "kubectl -n agents edit resourcequota small" in result.fix


def test_pod_security_refusals_are_recognised() -> None:
    assert is_pod_security(
        'would violate PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
    )
    assert not is_pod_security('unknown field "spec.x"')
