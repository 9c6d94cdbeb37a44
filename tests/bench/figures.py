"""Figures, their budgets and verdicts, as a table for people and as JSON for programs. Pure."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = [
    "BURST_RATIO",
    "CPU_A_TASK",
    "IDLE_MEMORY",
    "READS",
    "REQUESTS_A_TASK",
    "RESULT_LATENCY",
    "START",
    "WATCHES",
    "Budget",
    "Figure",
    "flight_memory",
    "percentile",
    "summary",
    "table",
]

Verdict = Literal["ok", "short"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a figure may be: at most ``limit``, or at least where ``at_least`` is set."""

    figure: str
    unit: str
    limit: float
    at_least: bool = False

    def verdict(self, value: float) -> Verdict:
        """Compare; a value exactly at the limit is within it."""
        within = value >= self.limit if self.at_least else value <= self.limit
        return "ok" if within else "short"


START: Final = Budget("start to listening", "s", 1.0)
IDLE_MEMORY: Final = Budget("idle memory (RSS)", "MiB", 48)
REQUESTS_A_TASK: Final = Budget("API requests a task", "requests", 2)
READS: Final = Budget("API reads", "requests", 0)
WATCHES: Final = Budget("watch connections", "connections", 2)
BURST_RATIO: Final = Budget("burst: Jobs a second, of a bare loop's", "ratio", 0.80, at_least=True)
RESULT_LATENCY: Final = Budget("Job's end to report, p99", "ms", 250)
CPU_A_TASK: Final = Budget("CPU a task", "ms", 3)

#: Tasks in flight, and the MiB that a worker may take with as many at most.
_FLIGHT_MEMORY: Final = ((1000, 64.0), (5000, 128.0))


def flight_memory(tasks: int) -> Budget:
    """The memory budget with ``tasks`` in flight: that of the next number which has one.

    Beyond the greatest of them its budget counts all the same: it is what the chart requests.
    """
    limits = [limit for most, limit in _FLIGHT_MEMORY if tasks <= most]
    return Budget("memory in flight (RSS)", "MiB", limits[0] if limits else _FLIGHT_MEMORY[-1][1])


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; ``note`` says under which circumstances."""

    budget: Budget
    value: float
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether the budget holds."""
        return self.budget.verdict(self.value)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that ``percent`` of them do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def summary(figures: Sequence[Figure], machine: Mapping[str, Any], version: str) -> str:
    """Write everything as one line of JSON."""
    rows = [
        {
            "figure": figure.budget.figure,
            "value": round(figure.value, 3),
            "unit": figure.budget.unit,
            "budget": figure.budget.limit,
            "bound": "at least" if figure.budget.at_least else "at most",
            "verdict": figure.verdict,
            "note": figure.note,
        }
        for figure in figures
    ]
    return json.dumps({"figures": rows, "machine": dict(machine), "version": version})


def table(figures: Sequence[Figure]) -> str:
    """Write one line a figure, in columns."""
    rows = [("figure", "value", "unit", "budget", "verdict", "note")]
    for figure in figures:
        budget = figure.budget
        sign = "≥" if budget.at_least else "≤"
        limit = f"{sign} {budget.limit:g}"
        rows.append((budget.figure, f"{figure.value:.4g}", budget.unit, limit, figure.verdict, figure.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
