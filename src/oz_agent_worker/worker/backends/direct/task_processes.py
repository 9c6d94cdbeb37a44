"""The processes of one execution: started, recorded, found again and ended."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from oz_agent_worker.protocol.outcome import describe_exit_code
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.journal import JournalRecord
from oz_agent_worker.worker.events import Notify, ignore_event

from .environment import MARK
from .processes import CommandNotStartedError, ProcessSession, ProcessSet, RunningCommand, end_processes
from .records import DirectState

__all__ = ["SWEEP_GRACE", "TaskCommands", "TaskProcesses", "end_and_warn", "shell"]

logger = logging.getLogger(__name__)

#: Seconds from TERM to KILL for what a command left running.
SWEEP_GRACE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCommands:
    """The settings that all tasks share. Times are in seconds; ``worker`` is the worker's environment."""

    worker: Mapping[str, str] = field(repr=False)
    setup_command: str | None
    teardown_command: str | None
    grace: float
    teardown_timeout: float
    notify: Notify = ignore_event


class TaskProcesses:
    """Starts commands in ``directory`` that print to the descriptor ``output``.

    Each has the mark of the record in its environment, so that it can be found from its first
    moment. Its session is written to the record too, for processes that clear their environment.
    """

    def __init__(self, record: JournalRecord[DirectState], directory: Path, output: int) -> None:
        self._record = record
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
            await self._save(command.session)
        except asyncio.CancelledError:  # the event loop ends
            command.kill()
            raise
        return command

    async def _save(self, session: ProcessSession) -> None:
        state = self._record.state
        changed = msgspec.structs.replace(state, sessions=(*state.sessions, session))
        try:
            await asyncio.to_thread(self._record.save, changed)
        except OSError as error:
            logger.warning(
                "Task %s: cannot write its record: %s. If the worker is killed, its successor finds the "
                "task's processes by their environment alone",
                self._record.key,
                error.strerror,
            )

    async def tear_down(self, commands: TaskCommands, environment: Mapping[str, str]) -> None:
        """Run the teardown command, if there is one, within its timeout. It changes no outcome."""
        if commands.teardown_command is None:
            return
        key = self._record.key
        try:
            running = await self.start(shell(commands.teardown_command), environment)
        except CommandNotStartedError as error:
            logger.warning("Task %s: the teardown command was not started: %s", key, error)
            return
        try:
            async with asyncio.timeout(commands.teardown_timeout):
                code = await running.wait()
        except TimeoutError:
            timeout = commands.teardown_timeout
            logger.warning("Task %s: the teardown command took longer than %g s", key, timeout)
            await running.stop(SWEEP_GRACE)
            return
        if code != 0:
            logger.warning("Task %s: the teardown command ended with %s", key, describe_exit_code(code))

    async def running_sessions(self) -> frozenset[int]:
        """The IDs of the sessions that have running processes."""
        return frozenset((await asyncio.to_thread(self._processes(frozenset()).find)).values())

    async def sweep(self, spared: frozenset[int] = frozenset()) -> None:
        """End all processes, except those of the ``spared`` sessions."""
        await end_and_warn(self._record.key, self._processes(spared), SWEEP_GRACE)
        # The system may reuse the ID of a session that has no process left.
        self._sessions = frozenset(s for s in self._sessions if s.leader in spared)

    def _processes(self, spared: frozenset[int]) -> ProcessSet:
        mark = os.fsencode(f"{MARK}={self._record.state.mark}")
        return ProcessSet(mark, self._sessions, spared)


async def end_and_warn(key: ExecutionKey, processes: ProcessSet, grace: float) -> None:
    """End processes of a task: TERM, and after ``grace`` seconds KILL. Log those that do not end."""
    if left := await end_processes(processes, grace):
        logger.warning("Task %s: processes cannot be ended: %s", key, sorted(left))


def shell(command: str) -> tuple[str, ...]:
    """The arguments that run an operator's command."""
    return "/bin/sh", "-c", command
