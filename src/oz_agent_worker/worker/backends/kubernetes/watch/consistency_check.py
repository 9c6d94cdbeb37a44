"""The safety net: is what the watch told of the Jobs in flight what the API server has?

A watch can die without a word. So the server's cache is asked from time to time, and a
difference that is still there at the next look means that the watch is to be started
again. The cache may itself be behind, by any amount: its answer never replaces what the
watch said, it only raises the suspicion that a consistent list then settles.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oz_agent_worker.worker.backends.kubernetes.api.rest import Observed

__all__ = ["Difference", "differences", "persistent"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Versions of one Job, ``None`` where it is unknown: told by the watch, and in the server's cache."""

    told: str | None
    cached: str | None


def differences(
    names: Iterable[str], told: Mapping[str, Observed], cached: Mapping[str, Observed]
) -> dict[str, Difference]:
    """Compare the two for each of ``names``; return those that are not the same."""
    found: dict[str, Difference] = {}
    for name in names:
        pair = Difference(_version(told.get(name)), _version(cached.get(name)))
        if pair.told != pair.cached:
            found[name] = pair
    return found


def persistent(before: Mapping[str, Difference], after: Mapping[str, Difference]) -> list[str]:
    """Name the Jobs of which the watch told nothing between two looks that both differed."""
    return sorted(name for name, pair in after.items() if name in before and before[name].told == pair.told)


def _version(item: Observed | None) -> str | None:
    return item.metadata.resource_version if item is not None else None
