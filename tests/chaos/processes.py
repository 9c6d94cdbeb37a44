"""The product's processes: each incarnation a victim with a log and a file of marks of its own."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.processes import die_with_parent
from tests.timeouts import HANG_TIMEOUT

from .plan import KillPlan
from .steps import Moment

__all__ = ["ROOT", "Incarnation", "Kind", "python_path"]

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is started again and again: ``name`` begins the names of its files in ``folder``."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    mutant: str | None = None


def python_path() -> str:
    """Where a child finds these tests, and all that this process found before them."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


class Incarnation:
    """One process, from its start to its end."""

    def __init__(self, kind: Kind, number: int, process: asyncio.subprocess.Process) -> None:
        self.name = f"{kind.name}-{number:03d}"
        self.log = kind.folder / f"{self.name}.log"
        self.marks = kind.folder / f"{self.name}.marks"
        self._process = process

    @classmethod
    async def start(cls, kind: Kind, number: int, plan: KillPlan | None) -> "Incarnation":
        """Start the program, armed where a plan has a step that a fault point marks."""
        name = kind.folder / f"{kind.name}-{number:03d}"
        armed = []
        if plan is not None and plan.step.moment is not Moment.OUTSIDE:
            armed = ["--kill-at", f"{plan.step.name}:{plan.count}", *([] if plan.at_once else ["--wait"])]
        mutant = ["--mutant", kind.mutant] if kind.mutant else []
        command = [
            sys.executable, "-m", "tests.chaos.victim", "--marks", f"{name}.marks",
            *armed, *mutant, "--", *kind.arguments,
        ]  # fmt: skip
        log = os.open(f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kind.environment, "PYTHONPATH": python_path()},
                preexec_fn=die_with_parent,
            )
        finally:
            os.close(log)
        return cls(kind, number, process)

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative where a signal ended it; None while it runs."""
        return self._process.returncode

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL

    async def ended(self, timeout: float) -> bool:
        """Wait for its end; whether that came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._process.wait()
        return self._process.returncode is not None

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self._send(signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """End it with SIGTERM, or with SIGKILL where that does not help in time."""
        self._send(signal.SIGTERM)
        if not await self.ended(HANG_TIMEOUT):
            await self.kill()

    def arm(self) -> None:
        """Let it die at its step from here on."""
        self._send(signal.SIGUSR1)

    def ask_census(self) -> None:
        """Have it write a census into its marks."""
        self._send(signal.SIGUSR2)

    def _send(self, number: signal.Signals) -> None:
        # Not by the process object: it would reap one that has just ended, and its exit code
        # were lost to the event loop, which waits for it in a thread.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def describe_end(self, lines: int = 12) -> str:
        """Its exit code and the end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"exit code {self.code}; its log ends:\n" + "\n".join(text.splitlines()[-lines:])
