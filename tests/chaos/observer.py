"""What is seen from outside: the logs as they are written, the marks, the record of what ran."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from .kills import KillLedger
from .records import Record, read_records

__all__ = ["Observer"]

_PAUSE: Final = 0.04
_HELLO: Final = re.compile(r"worker \S+ said hello")
_RUN: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


class _Tail:
    """A growing file, read line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()


class Observer:
    """Follows the logs and marks of the processes that live, and the record of what ran.

    ``passed`` counts the processes that went through a step; ``records`` is what ran so far.
    """

    def __init__(self, folder: Path, record: Path, kills: KillLedger) -> None:
        self.passed: dict[str, int] = {}
        self.records: list[Record] = []
        self.census: dict[str, dict[str, int]] = {}
        self._folder = folder
        self._record = _Tail(record)
        self._living: dict[str, tuple[_Tail, _Tail]] = {}
        self._listening: set[str] = set()
        self._kills = kills
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow for the time of the block."""
        task = asyncio.create_task(self._follow(), name="observer")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait for something that is seen here; whether it came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not holds():
                    await self._changed.wait()
        return holds()

    def listens(self, name: str) -> bool:
        """Whether this incarnation of a worker was connected, or of a control plane did listen."""
        return name in self._listening

    def born(self, name: str) -> None:
        """A process has been started: follow its files."""
        self._living[name] = (_Tail(self._folder / f"{name}.log"), _Tail(self._folder / f"{name}.marks"))

    def died(self, name: str) -> None:
        """A process has ended: read the rest of its log."""
        self.look()
        self._living.pop(name, None)

    async def _follow(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(_PAUSE)

    def look(self) -> None:
        """Read whatever is new."""
        now = time.time()
        seen = False
        for name, (log, marks) in self._living.items():
            for line in log.lines():
                seen = True
                self._log_line(name, line.decode(errors="replace"), now)
            for line in marks.lines():
                seen = True
                self._mark(name, json.loads(line))
        fresh = read_records(self._record.lines())
        self.records += fresh
        if fresh or seen:
            self._changed.set()
            self._changed = asyncio.Event()

    def _log_line(self, name: str, line: str, now: float) -> None:
        if "Listening for tasks" in line or "Workers connect to" in line:
            self._listening.add(name)
        if _HELLO.search(line):
            self._kills.connected(now)
        for run_id in _RUN.findall(line):
            self._kills.heard_of(run_id, name, now)

    def _mark(self, name: str, mark: dict[str, Any]) -> None:
        if "passed" in mark:
            self.passed[mark["passed"]] = self.passed.get(mark["passed"], 0) + 1
        elif "killed" in mark:
            self._kills.add(mark["killed"], name, mark["t"], mark["run_id"])
        else:
            self.census[name] = mark["census"]
