"""How full a namespace's quotas are."""

from typing import Any

import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes.preflight.namespace_checks import (
    Quota,
    is_pod_security,
    worst_quota,
)
from oz_agent_worker.worker.checks import Severity


def quota(name: str, hard: dict[str, str], used: dict[str, str] | None) -> Quota:
    content: Any = {"metadata": {"name": name}, "status": {"hard": hard, "used": used}}
    return msgspec.convert(content, Quota)


def test_without_quotas_there_is_room() -> None:
    assert worst_quota((), "agents").detail == "none"


def test_what_is_used_is_told() -> None:
    verdict = worst_quota(
        (quota("q", {"pods": "10", "limits.cpu": "4"}, {"pods": "3", "limits.cpu": "1500m"}),), "a"
    )
    assert (verdict.severity, verdict.detail) == (Severity.OK, "limits.cpu 1500m/4, pods 3/10")


@pytest.mark.parametrize(
    ("hard", "used"),
    [
        ({"pods": "3"}, {"pods": "3"}),
        ({"pods": "0"}, None),
        ({"count/jobs.batch": "1k"}, {"count/jobs.batch": "1000"}),
    ],
)
def test_a_full_quota_fails_with_a_way_out(hard: dict[str, str], used: dict[str, str] | None) -> None:
    verdict = worst_quota((quota("roomy", {"pods": "9"}, {}), quota("small", hard, used)), "agents")
    assert verdict.severity is Severity.FAIL
    assert verdict.detail.startswith("`small` is full: ")
    assert "kubectl -n agents edit resourcequota small" in verdict.fix


def test_what_tells_of_pod_security() -> None:
    assert is_pod_security(
        'would violate PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
    )
    assert not is_pod_security('unknown field "spec.x"')
