"""What a namespace enforces: its Pod Security level, its quotas, its limit ranges.

Reading these is not among the worker's permissions: a check that may not read is skipped, and
the preflight Job shows the effect.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ForbiddenError
from oz_agent_worker.worker.backends.kubernetes.api.rest import ItemList, Request
from oz_agent_worker.worker.checks import CheckResult, fail, ok, skip, warn

__all__ = [
    "Quota",
    "check_limit_ranges",
    "check_pod_security",
    "check_quotas",
    "is_pod_security",
    "judge_quotas",
]

_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_WOULD_VIOLATE: Final = re.compile(
    r'would violate PodSecurity "(?P<level>\w+):[^"]*": (?P<what>.*)', re.DOTALL
)
#: The resources of a quota of which each task uses at least one.
_COUNTED: Final = ("pods", "count/pods", "count/jobs.batch")

T = TypeVar("T")


class _Meta(msgspec.Struct, frozen=True):
    """The part of meta/v1, ObjectMeta that is read."""

    name: str = ""
    labels: Mapping[str, str] | None = None


class _Namespace(msgspec.Struct, frozen=True):
    """The part of core/v1, Namespace that is read."""

    metadata: _Meta = _Meta()


class _QuotaStatus(msgspec.Struct, frozen=True):
    hard: Mapping[str, str] | None = None
    used: Mapping[str, str] | None = None


class Quota(msgspec.Struct, frozen=True):
    """What may be used and what is used, by resource (core/v1, ResourceQuota)."""

    metadata: _Meta = _Meta()
    status: _QuotaStatus = _QuotaStatus()


class _Limit(msgspec.Struct, frozen=True):
    type: str = ""
    min: Mapping[str, str] | None = None
    max: Mapping[str, str] | None = None


class _LimitSpec(msgspec.Struct, frozen=True):
    limits: tuple[_Limit, ...] | None = None


class _LimitRange(msgspec.Struct, frozen=True):
    """What a container or a Pod may ask for (core/v1, LimitRange)."""

    metadata: _Meta = _Meta()
    spec: _LimitSpec = _LimitSpec()


async def _read(client: KubernetesClient, resource: str, path: str, form: type[T]) -> T | CheckResult:
    """Read an object or a list; a skipped check where that is not permitted."""
    request = Request("get", resource, "GET", path)
    try:
        answer = await client.exchange(request)
    except ForbiddenError:
        return skip(
            f"reading {resource} is not among the worker's permissions; the preflight Job shows the effect"
        )
    return rest.decode(request, answer.body, msgspec.json.Decoder(form))


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
    read = await _read(client, "namespaces", f"/api/v1/namespaces/{namespace}", _Namespace)
    if isinstance(read, CheckResult):
        return read
    level = (read.metadata.labels or {}).get(_ENFORCE)
    return ok(f"`{level}` is enforced" if level else "no level is enforced by a label")


async def check_quotas(client: KubernetesClient, namespace: str) -> CheckResult:
    """Show how full the namespace's quotas are.

    Raises:
        ApiError: the API server cannot be asked.
    """
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    read = await _read(client, "resourcequotas", path, ItemList[Quota])
    return read if isinstance(read, CheckResult) else judge_quotas(read.items or (), namespace)


def judge_quotas(quotas: Iterable[Quota], namespace: str) -> CheckResult:
    """Check quotas (core/v1, ResourceQuota): one is full if no further Job or Pod fits."""
    shown = []
    for quota in quotas:
        name, hard, used = quota.metadata.name, quota.status.hard or {}, quota.status.used or {}
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
    path = f"/api/v1/namespaces/{namespace}/limitranges"
    read = await _read(client, "limitranges", path, ItemList[_LimitRange])
    if isinstance(read, CheckResult):
        return read
    shown = [
        f"{item.metadata.name}: {limit.type} {bound} {_amounts(amounts)}"
        for item in read.items or ()
        for limit in item.spec.limits or ()
        for bound, amounts in (("min", limit.min), ("max", limit.max))
        if amounts
    ]
    return ok("; ".join(shown) or "none")


def _amounts(amounts: Mapping[str, str]) -> str:
    return " ".join(f"{resource}={amounts[resource]}" for resource in sorted(amounts))
