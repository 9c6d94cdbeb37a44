"""What a container asks for: Kubernetes' ResourceRequirements, checked before a cluster is asked.

Source: core/v1 ResourceRequirements; apimachinery, resource.Quantity.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from .nodes import Problems, shown, value_at
from .shapes import Shape, is_quantity, raw_mapping, unknown_key

__all__ = ["resource_problems", "resources"]

_AMOUNTS: Final = ("requests", "limits")
_KNOWN: Final = [*_AMOUNTS, "claims"]


def resources() -> Shape[Mapping[str, Any]]:
    """``requests`` and ``limits``, each a mapping of resource names to quantities, and ``claims``."""
    raw = raw_mapping()

    def decode(node: yaml.Node, path: str, problems: Problems) -> Mapping[str, Any] | None:
        value = raw.decode(node, path, problems)
        wrong = list(resource_problems(value or {}))
        for below, what in wrong:
            at: yaml.Node | None = node
            for key in below:
                at = value_at(at, key)
            problems.note(".".join((path, *below)), at, what)
        return None if wrong else value

    return Shape(raw.describe, raw.schema, decode)


def resource_problems(value: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong, each with its path below ``value``. Amounts are not compared with each other."""
    for kind, amounts in value.items():
        if kind not in _KNOWN:
            yield (kind,), unknown_key(kind, _KNOWN)
        elif kind in _AMOUNTS and amounts is not None:
            yield from _amount_problems(kind, amounts)


def _amount_problems(kind: str, amounts: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(amounts, Mapping):
        yield (kind,), f"read {shown(amounts)}, allowed is a mapping of resource names to quantities"
        return
    for name, amount in amounts.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not is_quantity(str(amount) if number else amount):
            yield (
                (kind, name),
                f"read {shown(amount)}, allowed is a Kubernetes quantity such as 2, 500m or 4Gi",
            )
