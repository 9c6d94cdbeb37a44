"""What processes held before, half-way through and after many tasks, and whether that shows a leak. Pure.

A cache that has a bound fills and then stays; a leak goes on. So the growth of the second half
counts, by which time the caches have filled: of the control plane those are what SQLite keeps for
each of five connections, pages (2 MiB at most) and compiled statements (128 at most).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["MEMORY", "OBJECTS", "LeakResult", "Level", "Span", "leaks"]

#: MiB that a process may grow by in a thousand tasks.
MEMORY: Final = 0.5
#: Blocks of memory that Python may hold more after a thousand tasks; one object a task were 1,000.
OBJECTS: Final = 250


@dataclass(frozen=True, slots=True)
class Level:
    """What one process holds: ``memory`` is resident, in MiB; ``objects`` are Python's blocks of memory."""

    census: Mapping[str, int]
    memory: float
    objects: int


@dataclass(frozen=True, slots=True)
class Span:
    """So many ``tasks``, and what one process held before and after them."""

    tasks: int
    before: Level
    after: Level

    @property
    def memory(self) -> float:
        """MiB by which the process has grown, a thousand tasks."""
        return (self.after.memory - self.before.memory) * 1000 / max(1, self.tasks)

    @property
    def objects(self) -> float:
        """Blocks that Python holds more, a thousand tasks."""
        return (self.after.objects - self.before.objects) * 1000 / max(1, self.tasks)


@dataclass(slots=True)
class LeakResult:
    """Halves by process; ``left`` is what the cluster or this host still holds.

    ``wanted`` are the tasks that were to be run, ``unfinished`` those that have not succeeded.
    """

    wanted: int
    seconds: float
    first: dict[str, Span]
    second: dict[str, Span]
    watches: tuple[int, int] = (0, 0)
    left: list[str] = field(default_factory=list)
    unfinished: int = 0

    @property
    def tasks(self) -> int:
        """How many were run, those that warm up aside."""
        return max((self.first[name].tasks + self.second[name].tasks for name in self.first), default=0)

    def summary(self) -> str:
        """The line of JSON."""
        fields: dict[str, Any] = {
            "tasks": self.tasks,
            "seconds": round(self.seconds, 1),
            "leaks": leaks(self),
            "watches": self.watches,
        }
        fields |= {name: _figures(first, self.second[name]) for name, first in self.first.items()}
        return json.dumps(fields)


def _figures(first: Span, second: Span) -> dict[str, Any]:
    levels = (first.before, second.before, second.after)
    return {
        "before": dict(first.before.census),
        "after": dict(second.after.census),
        "rss_mib": [round(level.memory, 1) for level in levels],
        "rss_growth_mib_per_1000": [round(half.memory, 3) for half in (first, second)],
        "objects": [level.objects for level in levels],
        "objects_growth_per_1000": [round(half.objects, 1) for half in (first, second)],
    }


def leaks(result: LeakResult) -> list[str]:
    """Say what has not come back to its level, what still grows, and what was not done."""
    found = list(result.left)
    if result.tasks < result.wanted:
        found.append(f"only {result.tasks} of {result.wanted} tasks had time")
    if result.unfinished:
        found.append(f"{result.unfinished} runs have not succeeded")
    if result.watches[1] > result.watches[0]:
        found.append(f"watches: {result.watches[0]} before, {result.watches[1]} after")
    for name, first in result.first.items():
        second = result.second[name]
        found += (f"{name}: {text}" for text in _above(first.before, second.after))
        found += (f"{name}: {text}" for text in _growing(second))
    return found


def _above(before: Level, after: Level) -> Iterator[str]:
    for what, level in before.census.items():
        if after.census[what] > level:
            yield f"{level} {what} before, {after.census[what]} after"


def _growing(half: Span) -> Iterator[str]:
    if half.memory > MEMORY:
        yield f"grew by {half.memory:.2f} MiB in a thousand tasks of the second half"
    if half.objects > OBJECTS:
        yield f"held {half.objects:.0f} objects more after a thousand tasks of the second half"
