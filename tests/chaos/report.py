"""What a run has shown, as a table for people and a line of JSON for programs. Pure."""

import json
from collections.abc import Sequence
from typing import Any, Final

from .comparison import Bad
from .kills import Kill, figures, percentile
from .run import Result
from .steps import STEPS

__all__ = ["exit_code", "findings", "summary", "table"]

#: Of each kind, so many are listed.
_LISTED: Final = 20


def table(kills: Sequence[Kill]) -> str:
    """The steps with their kills, in the order of a task's life."""
    by_step = figures(kills)
    rows = [f"{'step':<26} {'side':<14} {'kills':>5} {'p50 s':>7} {'p99 s':>7}"]
    for step in STEPS:
        found = by_step.get(step.name)
        if found is not None:
            recovery = f"{found.p50:>7.2f} {found.p99:>7.2f}"
            rows.append(f"{step.name:<26} {step.side:<14} {found.kills:>5} {recovery}")
    return "\n".join(rows)


def findings(result: Result) -> list[str]:
    """All that is wrong or worth mentioning, a line each."""
    comparison = result.comparison
    lines = []
    for name, bad in (
        ("lost", comparison.lost),
        ("ran twice", comparison.ran_twice),
        ("wrong state", comparison.wrong_state),
        ("degraded", comparison.degraded),
        ("doubled by Kubernetes", comparison.doubled),
    ):
        lines += _listed(name, bad)
    lines += [f"left behind: {what}" for what in result.left_behind]
    if result.unreached:
        lines.append(f"no kill at: {', '.join(result.unreached)}")
    return lines


def _listed(name: str, bad: Sequence[Bad]) -> list[str]:
    lines = [f"{name}: run {one.run_id} ({one.title}) {one.why}" for one in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"{name}: and {len(bad) - _LISTED} more")
    return lines


def exit_code(result: Result) -> int:
    """1 where a promise was broken, or less was done than was asked for; else 0."""
    settings = result.settings
    done = result.tasks >= settings.tasks and len(result.kills) >= settings.kills
    return 0 if done and not result.comparison.bad and not result.left_behind else 1


def summary(result: Result) -> str:
    """The line of JSON."""
    comparison = result.comparison
    recoveries = [kill.recovery for kill in result.kills if kill.recovery is not None]
    fields: dict[str, Any] = {
        "tasks": result.tasks,
        "kills": len(result.kills),
        "lost": len(comparison.lost),
        "ran_twice": len(comparison.ran_twice),
        "wrong_state": len(comparison.wrong_state),
        "left_behind": len(result.left_behind),
        "recovery_p50_s": round(percentile(recoveries, 0.5), 2),
        "recovery_p99_s": round(percentile(recoveries, 0.99), 2),
        "seed": result.settings.seed,
        "degraded": len(comparison.degraded),
        "doubled_by_kubernetes": len(comparison.doubled),
        "backend": result.settings.backend,
        "steps_killed_at": len({kill.step for kill in result.kills}),
        "steps_unreached": len(result.unreached),
        "mutant": result.settings.mutant,
        "seconds": round(result.seconds, 1),
        "settled_in_s": round(result.settled_in, 1),
    }
    return json.dumps(fields)
