"""What is planned: how each task shall end, when it is cancelled, and where processes die. Pure."""

import random
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .steps import Side, Step, steps_of

__all__ = ["End", "KillPlan", "TaskPlan", "kill_plans", "parse_orders", "task_plans"]


class End(StrEnum):
    """How a task's container ends by itself, or why it never starts."""

    SUCCESS = "success"
    EXIT = "exit"
    OOM = "oom"
    EVICTED = "evicted"
    IMAGE_PULL = "image-pull"
    UNSCHEDULABLE = "unschedulable"
    NEVER = "never"  # it runs until it is cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task.

    ``seconds`` is for how long its container runs; ``cancel_after``, in seconds since its
    submission was answered, when its cancellation is asked for; ``safe_to_retry``: the run says
    that it may be started again.
    """

    number: int
    end: End
    seconds: float
    exit_code: int = 0
    cancel_after: float | None = None
    safe_to_retry: bool = False

    @property
    def title(self) -> str:
        """Names the run at the control plane, whether or not its submission was answered."""
        return f"chaos {self.number:05d}"

    @property
    def orders(self) -> str:
        """Tells whoever plays the agent what to do, in characters that need no quotes.

        It travels as the run's profile: of a run's members that is one which the agent's command line
        has. The prompt is not: an agent reads it at the control plane.
        """
        return f"oz-chaos:{self.number}:{self.end}:{self.exit_code}:{self.seconds:.2f}:"


_ORDERS: Final = re.compile(r"oz-chaos:(\d+):([a-z-]+):(\d+):([0-9.]+):")


def parse_orders(text: str) -> TaskPlan | None:
    """Find a plan's orders in a text; what only the control plane knows of the plan is not in it."""
    found = _ORDERS.search(text)
    if found is None:
        return None
    return TaskPlan(number=int(found[1]), end=End(found[2]), exit_code=int(found[3]), seconds=float(found[4]))


#: Of a hundred tasks, how many are of each kind.
_KINDS: Final = {
    "short": 40,
    "long": 6,
    "exit": 12,
    "oom": 4,
    "evicted": 3,
    "image-pull": 4,
    "unschedulable": 3,
    "cancelled-queued": 4,
    "cancelled-early": 6,
    "cancelled-running": 8,
    "cancelled-racing": 6,
    "safe": 4,
}
_DIRECT: Final = frozenset(_KINDS) - {"oom", "evicted", "image-pull", "unschedulable"}
#: Of these a death between any two steps shows: no lease, retry or cancellation may end them otherwise.
_PLAIN: Final = frozenset({"short", "exit"})


def task_plans(rng: random.Random, backend: str, *, plain: bool = False) -> Iterator[TaskPlan]:
    """Yield plans for ever. The first ones have every kind once, so that a short run has all of them.

    ``plain`` are only tasks that nobody cancels and whose container ends soon by itself.
    """
    allowed = _PLAIN if plain else frozenset(_KINDS) if backend == "kubernetes" else _DIRECT
    kinds = [kind for kind in _KINDS if kind in allowed]
    weights = [_KINDS[kind] for kind in kinds]
    first = list(kinds)
    rng.shuffle(first)
    number = 0
    while True:
        number += 1
        kind = first.pop() if first and number > 4 else rng.choices(kinds, weights)[0]
        yield _plan(number, kind, rng)


def _plan(number: int, kind: str, rng: random.Random) -> TaskPlan:
    seconds = rng.uniform(0.05, 2.0)
    match kind:
        case "long":
            return TaskPlan(number=number, end=End.SUCCESS, seconds=rng.uniform(8.0, 15.0))
        case "exit":
            return TaskPlan(number=number, end=End.EXIT, seconds=seconds, exit_code=rng.randint(1, 99))
        case "oom":
            return TaskPlan(number=number, end=End.OOM, seconds=seconds, exit_code=137)
        case "evicted" | "image-pull" | "unschedulable":
            return TaskPlan(number=number, end=End(kind), seconds=seconds)
        case "cancelled-queued":
            return TaskPlan(number=number, end=End.NEVER, seconds=0.0, cancel_after=0.0)
        case "cancelled-early":
            return TaskPlan(number=number, end=End.NEVER, seconds=0.0, cancel_after=rng.uniform(0.05, 0.8))
        case "cancelled-running":
            return TaskPlan(number=number, end=End.NEVER, seconds=0.0, cancel_after=rng.uniform(1.0, 6.0))
        case "cancelled-racing":
            return TaskPlan(number=number, end=End.SUCCESS, seconds=seconds, cancel_after=seconds + 0.3)
        case "safe":
            return TaskPlan(number=number, end=End.SUCCESS, seconds=seconds, safe_to_retry=True)
    return TaskPlan(number=number, end=End.SUCCESS, seconds=seconds)


#: The share of the deaths that do not wait until all has recovered from those before.
_PILED_UP: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class KillPlan:
    """Kill a process at the ``count``-th passage through a step.

    It starts again after ``pause`` seconds. ``delay`` is when a step that is watched from outside is
    acted upon, in seconds since it was reached. ``at_once``: it can die from its first moment on, and
    not only when all has recovered from the deaths before.
    """

    step: Step
    count: int
    pause: float
    delay: float
    at_once: bool


def kill_plans(
    rng: random.Random, side: Side, backend: str, favourites: Collection[str] = ()
) -> Iterator[KillPlan]:
    """Yield plans for ever: the sharp steps first, then every other, then all again and again.

    Where some of the steps are ``favourites``, it is always them.
    """
    steps = list(steps_of(side, backend))
    steps = [step for step in steps if step.name in favourites] or steps
    sharp = [step for step in steps if step.sharp]
    others = [step for step in steps if not step.sharp]
    while True:
        for step in (*_shuffled(rng, sharp), *_shuffled(rng, others)):
            yield KillPlan(
                step=step,
                count=1 if step.early else rng.choice((1, 1, 2, 3)),
                pause=rng.choice((0.0, 0.0, rng.uniform(0.0, 1.5))),
                delay=rng.uniform(0.0, 1.0),
                at_once=step.early or rng.random() < _PILED_UP,
            )


def _shuffled(rng: random.Random, steps: Sequence[Step]) -> list[Step]:
    return rng.sample(steps, len(steps))
