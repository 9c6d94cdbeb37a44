"""The ledger of kills, and how long each took to recover from. Pure.

A kill is recovered from once a worker has sent hello to the control plane after it and, where
the step was about a run, a process other than the victim has since named that run in
its log: it was adopted, assigned, claimed, reported. A run of which nobody had anything
more to say (it had ended) adds nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Kill", "KillLedger", "StepFigures", "figures", "percentile"]


@dataclass(slots=True)
class Kill:
    """One SIGKILL; times in seconds since the epoch."""

    step: str
    victim: str
    t: float
    run_id: str
    connected_at: float | None = None
    went_on_at: float | None = None

    @property
    def recovery(self) -> float | None:
        """Seconds until the worker was connected and the run went on; None: no worker came back."""
        if self.connected_at is None:
            return None
        return max(self.connected_at, self.went_on_at or 0.0) - self.t


class KillLedger:
    """All kills, in their order."""

    def __init__(self) -> None:
        self.kills: list[Kill] = []

    def __len__(self) -> int:
        return len(self.kills)

    @property
    def recovering(self) -> bool:
        """Whether there was a kill after which no worker has sent hello yet."""
        return any(kill.connected_at is None for kill in self.kills)

    def add(self, step: str, victim: str, t: float, run_id: str) -> None:
        """A process was killed."""
        self.kills.append(Kill(step, victim, t, run_id))

    def connected(self, now: float) -> None:
        """A worker has sent hello."""
        for kill in self.kills:
            if kill.connected_at is None and kill.t < now:
                kill.connected_at = now

    def heard_of(self, run_id: str, name: str, now: float) -> None:
        """A process has logged something about a run."""
        for kill in self.kills:
            if kill.run_id == run_id and kill.went_on_at is None and kill.victim != name and kill.t < now:
                kill.went_on_at = now


@dataclass(frozen=True, slots=True)
class StepFigures:
    """The kills at one step; recoveries in seconds."""

    step: str
    kills: int
    p50: float
    p99: float


def figures(kills: Iterable[Kill]) -> dict[str, StepFigures]:
    """Sum up by step."""
    by_step: dict[str, list[Kill]] = {}
    for kill in kills:
        by_step.setdefault(kill.step, []).append(kill)
    return {
        step: StepFigures(step, len(those), *(percentile(_recoveries(those), q) for q in (0.5, 0.99)))
        for step, those in by_step.items()
    }


def _recoveries(kills: Iterable[Kill]) -> list[float]:
    return [kill.recovery for kill in kills if kill.recovery is not None]


def percentile(values: Iterable[float], q: float) -> float:
    """The smallest value that at least ``q`` of all do not exceed; 0 where there are none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
