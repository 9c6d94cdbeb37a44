"""What a namespace enforces, and how full its quotas are."""

import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiStatusError
from oz_agent_worker.worker.backends.kubernetes.preflight.namespace_checks import (
    Quota,
    check_limit_ranges,
    check_pod_security,
    check_quotas,
    is_pod_security,
    judge_quotas,
)
from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import (
    OWNER_PERMISSION,
    refused_permissions,
)
from oz_agent_worker.worker.checks import CheckResult, Severity, ok
from tests.unit.worker.backends.kubernetes.scripted_api import Answer, ScriptedApi, failure, scripted_client
from tests.virtual_time import in_virtual_time


async def pod_security(client: KubernetesClient, namespace: str) -> CheckResult:
    return await check_pod_security(client, namespace, ())


CHECKS = {"namespace": pod_security, "quotas": check_quotas, "limit ranges": check_limit_ranges}


def quota(name: str, hard: dict[str, str], used: dict[str, str] | None) -> Quota:
    return msgspec.convert({"metadata": {"name": name}, "status": {"hard": hard, "used": used}}, Quota)


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


def result_of(check: str, body: bytes) -> CheckResult:
    """What a check makes of this answer."""
    found: list[CheckResult] = []

    @in_virtual_time
    async def run() -> None:
        api = ScriptedApi()
        api.answer("list", Answer(parts=(body,)))
        async with scripted_client(api) as client:
            found.append(await CHECKS[check](client, "agents"))

    run()
    return found[0]


@pytest.mark.parametrize(
    ("check", "body"),
    [
        ("namespace", b"[]"),
        ("namespace", b'{"metadata":[]}'),
        ("namespace", b'{"metadata":{"labels":"none"}}'),
        ("quotas", b'{"items":["q"]}'),
        ("quotas", b'{"items":[{"status":{"hard":["pods"]}}]}'),
        ("limit ranges", b'{"items":{}}'),
        ("limit ranges", b'{"items":[{"spec":{"limits":[{"max":{"cpu":4}}]}}]}'),
    ],
)
def test_an_answer_of_another_form_is_an_error_of_the_api(check: str, body: bytes) -> None:
    with pytest.raises(ApiStatusError, match="the answer is no Kubernetes object"):
        result_of(check, body)


@pytest.mark.parametrize(
    ("check", "body", "detail"),
    [
        ("namespace", b"{}", "no level is enforced by a label"),
        ("namespace", b'{"metadata":{"labels":null}}', "no level is enforced by a label"),
        ("quotas", b'{"items":null}', "none"),
        ("quotas", b'{"items":[{"status":{"hard":{"cpu":"1"}}}]}', "cpu 0/1"),
        ("limit ranges", b'{"items":[{}]}', "none"),
        (
            "limit ranges",
            b'{"items":[{"metadata":{"name":"l"},"spec":{"limits":'
            b'[{"type":"Pod","min":{},"max":{"memory":"1Gi","cpu":"4"}}]}}]}',
            "l: Pod max cpu=4 memory=1Gi",
        ),
    ],
)
def test_what_an_answer_leaves_out_has_a_default(check: str, body: bytes, detail: str) -> None:
    assert result_of(check, body) == ok(detail)


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"status":[]}', b'{"status":"yes"}', b'{"status":{"allowed":"true"}}']
)
def test_a_permission_is_tried_where_its_review_has_another_form(body: bytes) -> None:
    @in_virtual_time
    async def run() -> None:
        api = ScriptedApi()
        api.answer("POST", Answer(parts=(body,)))
        api.answer("list", failure(403, 'User "w" cannot get resource "pods"', reason="Forbidden"))
        async with scripted_client(api) as client:
            asked = refused_permissions(client, "agents", [OWNER_PERMISSION], unique="u", patience=0.0)
            assert await asked == {OWNER_PERMISSION: 'User "w" cannot get resource "pods"'}

    run()
