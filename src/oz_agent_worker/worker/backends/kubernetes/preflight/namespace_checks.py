"""What a namespace enforces: its Pod Security level, its quotas, its limit ranges.

Reading these is not among the worker's permissions: a check that may not read is skipped, and
the preflight Job shows the effect.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ForbiddenError
from oz_agent_worker.worker.backends.kubernetes.api.rest import Request
from oz_agent_worker.worker.checks import CheckResult, fail, ok, skip, warn

__all__ = ["check_limit_ranges", "check_pod_security", "check_quotas", "is_pod_security", "judge_quotas"]

_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_WOULD_VIOLATE: Final = re.compile(
    r'would violate PodSecurity "(?P<level>\w+):[^"]*": (?P<what>.*)', re.DOTALL
)
#: The resources of a quota of which each task uses at least one.
_COUNTED: Final = ("pods", "count/pods", "count/jobs.batch")
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


async def _read(client: KubernetesClient, resource: str, path: str) -> dict[str, Any] | CheckResult:
    """Read an object or a list as plain data; a skipped check where that is not permitted."""
    request = Request("get", resource, "GET", path)
    try:
        answer = await client.exchange(request)
    except ForbiddenError:
        return skip(
            f"reading {resource} is not among the worker's permissions; the preflight Job shows the effect"
        )
    return rest.decode(request, answer.body, _DECODER)


def is_pod_security(warning: str) -> bool:
    """Whether a warning of the API server is about a Pod Security level."""
    return _WOULD_VIOLATE.match(warning) is not None


async def check_pod_security(
    client: KubernetesClient, namespace: str, warnings: tuple[str, ...]
) -> CheckResult:
    """Show the level that the namespace enforces; ``warnings`` are those of a task's dry run.

    Raises:
        ApiError: the API server cannot be asked.
    """
    for text in warnings:
        found = _WOULD_VIOLATE.match(text)
        if found is not None:
            return warn(
                f"`{found['level']}`, and a task's Pod would violate it: {found['what']}",
                "the check `admission` shows whether this level is enforced, and what to change",
            )
    read = await _read(client, "namespaces", f"/api/v1/namespaces/{namespace}")
    if isinstance(read, CheckResult):
        return read
    level = (read["metadata"].get("labels") or {}).get(_ENFORCE)
    return ok(f"`{level}` is enforced" if level else "no level is enforced by a label")


async def check_quotas(client: KubernetesClient, namespace: str) -> CheckResult:
    """Show how full the namespace's quotas are.

    Raises:
        ApiError: the API server cannot be asked.
    """
    read = await _read(client, "resourcequotas", f"/api/v1/namespaces/{namespace}/resourcequotas")
    return read if isinstance(read, CheckResult) else judge_quotas(read.get("items") or (), namespace)


def judge_quotas(quotas: Iterable[Mapping[str, Any]], namespace: str) -> CheckResult:
    """Check quotas (core/v1, ResourceQuota): one is full if no further Job or Pod fits."""
    shown = []
    for quota in quotas:
        name, status = quota["metadata"]["name"], quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        for resource in _COUNTED:
            if resource in hard and _count(used.get(resource, "0")) >= _count(hard[resource]):
                return fail(
                    f"`{name}` is full: {used.get(resource, '0')} of {hard[resource]} {resource}",
                    f"raise it (kubectl -n {namespace} edit resourcequota {name}), or delete what fills it",
                )
        shown += [f"{resource} {used.get(resource, '0')}/{hard[resource]}" for resource in sorted(hard)]
    return ok(", ".join(shown) or "none")


def _count(quantity: str) -> float:
    """Read a count (resource.Quantity): objects are counted in plain numbers, or in thousands."""
    number = float(quantity.rstrip("k"))
    return number * 1000 if quantity.endswith("k") else number


async def check_limit_ranges(client: KubernetesClient, namespace: str) -> CheckResult:
    """Show what the namespace allows a container or a Pod (core/v1, LimitRange).

    Raises:
        ApiError: the API server cannot be asked.
    """
    read = await _read(client, "limitranges", f"/api/v1/namespaces/{namespace}/limitranges")
    if isinstance(read, CheckResult):
        return read
    shown = [
        f"{item['metadata']['name']}: {limit['type']} {bound} {_amounts(limit[bound])}"
        for item in read.get("items") or ()
        for limit in item["spec"].get("limits") or ()
        for bound in ("min", "max")
        if limit.get(bound)
    ]
    return ok("; ".join(shown) or "none")


def _amounts(amounts: Mapping[str, str]) -> str:
    return " ".join(f"{resource}={amounts[resource]}" for resource in sorted(amounts))
