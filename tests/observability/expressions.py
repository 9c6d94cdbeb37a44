"""The names in a PromQL expression: metrics, labels that it selects, and labels that it groups by."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Selector", "grouping", "metric_names", "selectors"]

_METRIC: Final = re.compile(r"\b(oz_\w+)(?:\{(?P<matchers>[^{}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Selector:
    """One condition of a metric: ``metric{label operator "value"}``."""

    metric: str
    label: str
    operator: str
    value: str

    def takes(self, values: tuple[str, ...]) -> bool:
        """Whether one of these values fulfils it, and, of a regular expression, each of its choices."""
        match self.operator:
            case "=":
                return self.value in values
            case "!=":
                return self.value in values and len(values) > 1
            case _:
                choices = self.value.split("|")
                return all(any(re.fullmatch(choice, value) for value in values) for choice in choices)


def metric_names(expression: str) -> set[str]:
    """Every metric of this project that is named."""
    return {found[1] for found in _METRIC.finditer(expression)}


def selectors(expression: str) -> Iterator[Selector]:
    """Every condition."""
    for found in _METRIC.finditer(expression):
        for label, operator, value in _MATCHER.findall(found["matchers"] or ""):
            yield Selector(found[1], label, operator, value)


def grouping(expression: str) -> set[str]:
    """Every label that is grouped, matched or joined by."""
    lists = (found[1].split(",") for found in _GROUPING.finditer(expression))
    return {label.strip() for labels in lists for label in labels if label.strip()}
