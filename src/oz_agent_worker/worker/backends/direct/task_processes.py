"""The processes of one execution: started, written down, found again and ended."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from oz_agent_worker.protocol.outcome import describe_exit_code
from oz_agent_worker.worker.backends.journal import JournalRecord

from .command import CommandNotStartedError, RunningCommand
from .environment import MARK
from .processes import ProcessSession, ProcessSet, end_kin
from .record import DirectState

__all__ = ["SWEEP_GRACE", "TaskProcesses", "shell"]

logger = logging.getLogger(__name__)

#: How long, in seconds, what a command left running has between TERM and KILL.
SWEEP_GRACE: Final = 1.0


class TaskProcesses:
    """Starts commands in ``directory`` that print to the descriptor ``output``.

    Each has the mark of the record in its environment, so that it is found from its first
    instant on; its session is written down besides, for processes that clear theirs.
    """

    def __init__(self, entry: JournalRecord[DirectState], directory: Path, output: int) -> None:
        self._entry = entry
        self._directory = directory
        self._output = output
        self._sessions: frozenset[ProcessSession] = frozenset()

    async def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> RunningCommand:
        """Start a command.

        Raises:
            CommandNotStartedError: the program cannot be started.
        """
        command = await RunningCommand.start(
            argv, directory=self._directory, environment=environment, output=self._output
        )
        self._sessions |= {command.session}
        try:
            await self._write_down(command.session)
        except asyncio.CancelledError:  # the event loop ends
            command.kill()
            raise
        return command

    async def _write_down(self, session: ProcessSession) -> None:
        state = self._entry.state
        try:
            await asyncio.to_thread(
                self._entry.save, msgspec.structs.replace(state, sessions=(*state.sessions, session))
            )
        except OSError as error:
            logger.warning(
                "Task %s: its record cannot be written: %s. Were the worker killed, its successor would find "
                "the task's processes by their environment alone",
                self._entry.key,
                error.strerror,
            )

    async def tear_down(self, command: str | None, environment: Mapping[str, str], timeout: float) -> None:
        """Run the teardown command, ``timeout`` seconds at most. Whatever it does changes no outcome."""
        if command is None:
            return
        key = self._entry.key
        try:
            running = await self.start(shell(command), environment)
        except CommandNotStartedError as error:
            logger.warning("Task %s: the teardown command was not started: %s", key, error)
            return
        try:
            async with asyncio.timeout(timeout):
                code = await running.wait()
        except TimeoutError:
            logger.warning("Task %s: the teardown command took longer than %g s", key, timeout)
            await running.stop(SWEEP_GRACE)
            return
        if code != 0:
            logger.warning("Task %s: the teardown command ended with %s", key, describe_exit_code(code))

    async def services(self) -> frozenset[int]:
        """The sessions of all that runs, by ID."""
        return frozenset((await asyncio.to_thread(self._kin(frozenset()).find)).values())

    async def sweep(self, spared: frozenset[int] = frozenset()) -> None:
        """End whatever runs, ``spared`` sessions apart."""
        await self.end(self._kin(spared), SWEEP_GRACE)
        # A session of which nothing is left has no name any more: the system gives it to others.
        self._sessions = frozenset(s for s in self._sessions if s.leader in spared)

    async def end(self, kin: ProcessSet, grace: float) -> None:
        """End processes: TERM, and after ``grace`` seconds KILL."""
        if left := await end_kin(kin, grace):
            logger.warning("Task %s: processes cannot be ended: %s", self._entry.key, sorted(left))

    def _kin(self, spared: frozenset[int]) -> ProcessSet:
        mark = os.fsencode(f"{MARK}={self._entry.state.mark}")
        return ProcessSet(mark, self._sessions, spared)


def shell(command: str) -> tuple[str, ...]:
    """The arguments that run an operator's command."""
    return "/bin/sh", "-c", command
