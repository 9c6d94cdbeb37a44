"""Compares what the watch has delivered of the Jobs in flight with the API server's cache. Pure.

A watch can die without an error. So the server's cache is read from time to time, and a
difference that persists at the next look means that the watch has to be restarted. The cache may
be behind by any amount: it never replaces what the watch delivered, and a consistent list follows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oz_agent_worker.worker.backends.kubernetes.api.rest import HasMetadata

__all__ = ["VersionDifference", "differences", "persistent"]


@dataclass(frozen=True, slots=True)
class VersionDifference:
    """Resource versions of one Job: from the watch and in the server's cache; ``None`` where it has none."""

    watched: str | None
    cached: str | None


def differences(
    names: Iterable[str], watched: Mapping[str, HasMetadata], cached: Mapping[str, HasMetadata]
) -> dict[str, VersionDifference]:
    """Compare the two for each of ``names``; return those that differ."""
    pairs = {
        name: VersionDifference(_version(watched.get(name)), _version(cached.get(name))) for name in names
    }
    return {name: pair for name, pair in pairs.items() if pair.watched != pair.cached}


def persistent(before: Mapping[str, VersionDifference], after: Mapping[str, VersionDifference]) -> list[str]:
    """Name the Jobs that differed at both looks and of which the watch delivered nothing in between."""
    return sorted(
        name for name, pair in after.items() if name in before and before[name].watched == pair.watched
    )


def _version(item: HasMetadata | None) -> str | None:
    return item.metadata.resource_version if item is not None else None
