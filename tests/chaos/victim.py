"""Starts ``oz-agent-worker`` with fault points: the process kills itself at a step.

``python -m tests.chaos.victim --marks FILE [--kill-at STEP:COUNT [--wait]] [--mutant NAME] -- ARGUMENT…``

At the COUNT-th passage through STEP the process gets SIGKILL from itself, in the middle of
whatever else it does. With ``--wait`` they are counted from SIGUSR1 on. FILE takes a line of
JSON for the first passage through each step, and for the kill. SIGUSR2 adds one with what the
process holds.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .census import take_census
from .faults import install
from .mutants import MUTANTS
from .steps import STEPS, Side, Step, find

__all__ = ["KillPoint", "main", "parse_kill_point"]


@dataclass(frozen=True, slots=True)
class KillPoint:
    """Die at the ``count``-th passage through ``step``."""

    step: Step
    count: int


def parse_kill_point(text: str) -> KillPoint:
    """Read ``STEP`` or ``STEP:COUNT``. Raises ValueError."""
    name, _, count = text.partition(":")
    try:
        return KillPoint(find(name), int(count or "1"))
    except LookupError as error:
        raise ValueError(str(error)) from error


class _Marks:
    """The file of passages. Each line is one write, so that a kill leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **fields: Any) -> None:
        line = json.dumps({"t": time.time(), "pid": os.getpid(), **fields})
        os.write(self._descriptor, line.encode() + b"\n")


class _Passages:
    """Counts passages, and ends the process at the one that was asked for."""

    def __init__(self, marks: _Marks, kill_point: KillPoint | None, *, armed: bool) -> None:
        self._marks = marks
        self._kill_point = kill_point
        self._armed = armed
        self._left = kill_point.count if kill_point is not None else 0
        self._passed: set[str] = set()

    def arm(self) -> None:
        """From here on passages count."""
        self._armed = True

    def note(self, step: Step, run_id: str) -> None:
        if step.name not in self._passed:
            self._passed.add(step.name)
            self._marks.write(passed=step.name)
        point = self._kill_point
        if point is None or point.step is not step or not self._armed:
            return
        self._left -= 1
        if self._left <= 0:
            self._marks.write(killed=step.name, run_id=run_id)
            os.kill(os.getpid(), signal.SIGKILL)


def main(argv: Sequence[str] | None = None) -> None:
    """Arm the fault points and become the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.victim")
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--kill-at", type=parse_kill_point)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    parser.add_argument("arguments", nargs="+")
    asked = parser.parse_args(argv)
    marks = _Marks(asked.marks)
    side = Side.CONTROL_PLANE if asked.arguments[0] == Side.CONTROL_PLANE else Side.WORKER
    if asked.mutant is not None:
        MUTANTS[asked.mutant].change()
    passages = _Passages(marks, asked.kill_at, armed=not asked.wait)
    install((step for step in STEPS if step.side is side), passages.note)
    signal.signal(signal.SIGUSR1, lambda number, frame: passages.arm())
    signal.signal(signal.SIGUSR2, lambda number, frame: marks.write(census=take_census()))

    from oz_agent_worker.cli.main import main as run

    sys.argv[0] = "oz-agent-worker"
    run(list(asked.arguments))


if __name__ == "__main__":
    main()
