"""What holds in a namespace: its Pod Security level, its quotas, its limits.

Reading these is not among the worker's permissions: what may not be read is skipped, and
the preflight Job shows whether it stands in the way.
"""

import re
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ForbiddenError
from oz_agent_worker.worker.backends.kubernetes.api.rest import Request
from oz_agent_worker.worker.checks import CheckResult, fail, ok, skip, warn

__all__ = ["check_limit_ranges", "check_pod_security", "check_quotas", "is_pod_security", "worst_quota"]

_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_WOULD_VIOLATE: Final = re.compile(
    r'would violate PodSecurity "(?P<level>\w+):[^"]*": (?P<what>.*)', re.DOTALL
)
_DENIED: Final = "reading {0} is not among the worker's permissions; the preflight Job shows the effect"
#: What a task takes of a quota at least.
_COUNTED: Final = ("pods", "count/pods", "count/jobs.batch")

T = TypeVar("T")


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""
    labels: Mapping[str, str] | None = None


class _Namespace(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


class _QuotaStatus(msgspec.Struct, frozen=True):
    hard: Mapping[str, str] | None = None
    used: Mapping[str, str] | None = None


class Quota(msgspec.Struct, frozen=True):
    """core/v1, ResourceQuota: what may be used, and what is, by resource."""

    metadata: _Meta = _Meta()
    status: _QuotaStatus = _QuotaStatus()


class _Limit(msgspec.Struct, frozen=True):
    type: str = ""
    min: Mapping[str, str] | None = None
    max: Mapping[str, str] | None = None


class _LimitSpec(msgspec.Struct, frozen=True):
    limits: tuple[_Limit, ...] | None = None


class _LimitRange(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _LimitSpec = _LimitSpec()


class _List(msgspec.Struct, Generic[T], frozen=True):
    items: tuple[T, ...] | None = None


async def _read(client: KubernetesClient, resource: str, path: str, kind: type[T]) -> T | None:
    """Read an object or a list; ``None`` where that is not permitted."""
    request = Request("get", resource, "GET", path)
    try:
        answer = await client.exchange(request)
    except ForbiddenError:
        return None
    return rest.decode(request, answer.body, msgspec.json.Decoder(kind))


def is_pod_security(warning: str) -> bool:
    """Whether a warning of the API server tells of a Pod Security level."""
    return _WOULD_VIOLATE.match(warning) is not None


async def check_pod_security(
    client: KubernetesClient, namespace: str, warnings: tuple[str, ...]
) -> CheckResult:
    """Tell the level that the namespace enforces; ``warnings`` are those of a task's dry run."""
    for text in warnings:
        found = _WOULD_VIOLATE.match(text)
        if found is not None:
            return warn(
                f"`{found['level']}`, and a task's Pod would violate it: {found['what']}",
                "the check `admission` tells whether this level is enforced, and what to change",
            )
    read = await _read(client, "namespaces", f"/api/v1/namespaces/{namespace}", _Namespace)
    if read is None:
        return skip(_DENIED.format("namespaces"))
    level = (read.metadata.labels or {}).get(_ENFORCE)
    return ok(f"`{level}` is enforced" if level else "no level is enforced by a label")


async def check_quotas(client: KubernetesClient, namespace: str) -> CheckResult:
    """Tell how full the namespace's quotas are."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    listed = await _read(client, "resourcequotas", path, _List[Quota])
    if listed is None:
        return skip(_DENIED.format("resourcequotas"))
    return worst_quota(listed.items or (), namespace)


def worst_quota(quotas: tuple[Quota, ...], namespace: str) -> CheckResult:
    """Judge quotas: full is where not one more Job or Pod fits."""
    if not quotas:
        return ok("none")
    told = []
    for quota in quotas:
        name, hard, used = quota.metadata.name, quota.status.hard or {}, quota.status.used or {}
        for resource in _COUNTED:
            if resource in hard and _count(used.get(resource, "0")) >= _count(hard[resource]):
                return fail(
                    f"`{name}` is full: {used.get(resource, '0')} of {hard[resource]} {resource}",
                    f"raise it (kubectl -n {namespace} edit resourcequota {name}), or delete what fills it",
                )
        told += [f"{resource} {used.get(resource, '0')}/{hard[resource]}" for resource in sorted(hard)]
    return ok(", ".join(told) or "none")


def _count(quantity: str) -> float:
    """Read a count (resource.Quantity): objects are counted in plain numbers, or in thousands."""
    number = float(quantity.rstrip("k"))
    return number * 1000 if quantity.endswith("k") else number


async def check_limit_ranges(client: KubernetesClient, namespace: str) -> CheckResult:
    """Tell what the namespace allows a container or a Pod."""
    path = f"/api/v1/namespaces/{namespace}/limitranges"
    listed = await _read(client, "limitranges", path, _List[_LimitRange])
    if listed is None:
        return skip(_DENIED.format("limitranges"))
    told = [
        f"{item.metadata.name}: {limit.type} {bound} {_amounts(amounts)}"
        for item in listed.items or ()
        for limit in item.spec.limits or ()
        for bound, amounts in (("min", limit.min), ("max", limit.max))
        if amounts
    ]
    return ok("; ".join(told) or "none")


def _amounts(amounts: Mapping[str, str]) -> str:
    return " ".join(f"{resource}={amounts[resource]}" for resource in sorted(amounts))
