"""One execution on this host: setup command, agent, teardown command, and nothing left."""

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from oz_agent_worker.common.aio import ends_before
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, cancelled, describe_exit_code, failed, succeeded
from oz_agent_worker.worker.backends.base import SHUTDOWN
from oz_agent_worker.worker.events import EventKind, Notify, TaskEvent, ignore_event

from .command import CommandNotStartedError
from .dotenv import DotenvError
from .environment import TaskEnvironment, read_environment_file
from .output import OutputPipe
from .processes import ProcessSet
from .record import RecordLock, conclude
from .task_processes import SWEEP_GRACE, TaskProcesses, shell
from .workspace import Workspace

__all__ = ["DirectExecution", "ExecutionPlan", "HostExecution", "TaskCommands"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCommands:
    """What is the same for every task. Times are in seconds; ``worker`` is the worker's environment."""

    worker: Mapping[str, str] = field(repr=False)
    setup_command: str | None
    teardown_command: str | None
    grace: float
    teardown_timeout: float
    notify: Notify = ignore_event


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPlan:
    """What an execution runs."""

    agent: Sequence[str] = field(repr=False)
    environment: TaskEnvironment
    routine: TaskCommands


class HostExecution(ABC):
    """An execution of this backend. It begins when it is made, in the running event loop."""

    def __init__(self, holding: RecordLock, give_back: Callable[[RecordLock], Awaitable[None]]) -> None:
        self._holding = holding
        self._give_back = give_back
        self._released = False
        self._life = asyncio.create_task(self._live(), name=f"direct {holding.entry.key}")

    @abstractmethod
    async def _live(self) -> Outcome:
        """Go through the execution to its end; its record tells the outcome by then."""

    async def wait(self) -> Outcome:
        """Return how it ended; the teardown command has ended too."""
        return await asyncio.shield(self._life)

    async def stop(self, reason: str) -> None:
        """Return when it has ended."""
        await asyncio.wait({self._life})

    async def release(self, outcome: Outcome) -> None:
        """Give back what it holds, which removes the workspace where the settings say so."""
        if not self._released:
            self._released = True
            await self._give_back(self._holding)

    def abandon(self) -> None:
        """Leave what nobody released in its place, for the next worker."""
        if not self._released:
            self._released = True
            self._holding.let_go()


class DirectExecution(HostExecution):
    """An execution that this worker began."""

    def __init__(
        self,
        plan: ExecutionPlan,
        holding: RecordLock,
        workspace: Workspace,
        output: OutputPipe,
        give_back: Callable[[RecordLock], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._workspace = workspace
        self._output = output
        self._processes = TaskProcesses(holding.entry, workspace.directory, output.writer)
        self._exported: Mapping[str, Secret] = {}
        self._services: frozenset[int] = frozenset()
        self._stopping = asyncio.Event()
        self._reason = ""
        super().__init__(holding, give_back)

    async def stop(self, reason: str) -> None:
        """End it: the running command's process group gets TERM, and KILL after the grace.

        A setup command or an agent that has not begun does not begin. The teardown
        command runs as after every task, and has ended when this returns.
        """
        if not self._life.done():
            logger.info("Stopping task %s: %s", self._holding.entry.key, reason)
            self._reason = self._reason or reason
            self._stopping.set()
        await super().stop(reason)

    async def _live(self) -> Outcome:
        routine = self._plan.routine
        await self._output.open()
        try:
            if self._workspace.reused:
                await self._end_earlier()
            outcome = await self._set_up() or await self._run_agent()
            # On the disk before the teardown command begins, so that it never runs twice.
            written = await conclude(self._holding.entry, outcome)
            environment = self._plan.environment.of_command(routine.worker, self._exported)
            await self._processes.tear_down(routine.teardown_command, environment, routine.teardown_timeout)
            if not written:  # the teardown command may have made room
                await conclude(self._holding.entry, outcome)
            return outcome
        finally:
            if routine.setup_command or routine.teardown_command:
                await self._processes.sweep()
            await self._output.drain()

    async def _end_earlier(self) -> None:
        """End what runs in the workspace of a holder that died and has no record in this journal."""
        mark = f"OZ_ENVIRONMENT_FILE={self._workspace.environment_file}"
        await self._processes.end(ProcessSet(os.fsencode(mark)), SWEEP_GRACE)

    async def _set_up(self) -> Outcome | None:
        """Run the setup command; the outcome where the agent shall not run after it."""
        command = self._plan.routine.setup_command
        if command is None:
            return None
        reason = FailureReason.SETUP_COMMAND
        environment = self._plan.environment.of_command(self._plan.routine.worker, {})
        try:
            code = await self._run(shell(command), environment)
            if code is None:
                return self._stopped()
            if code != 0:
                what = f"The setup command ended with {describe_exit_code(code)}"
                return failed(reason, what, exit_code=code)
            self._exported = read_environment_file(self._workspace.environment_file)
        except CommandNotStartedError as error:
            return failed(reason, f"The setup command was not started: {error}")
        except DotenvError as error:
            return failed(reason, f"The setup command's environment file cannot be read: {error}")
        except OSError as error:
            return failed(reason, f"The setup command's environment file cannot be read: {error.strerror}")
        # What it left running serves the agent, and is ended after the teardown command.
        self._services = await self._processes.services()
        return None

    async def _run_agent(self) -> Outcome:
        routine = self._plan.routine
        environment = self._plan.environment.of_agent(routine.worker, self._exported)
        begun = TaskEvent(EventKind.AGENT_STARTED, self._holding.entry.key)
        try:
            code = await self._run(self._plan.agent, environment, lambda: routine.notify(begun))
        except CommandNotStartedError as error:
            return failed(FailureReason.AGENT_INVOCATION, f"The agent was not started: {error}")
        await self._processes.sweep(self._services)
        if code is None:
            return self._stopped()
        if code == 0:
            return succeeded()
        what = f"The agent ended with {describe_exit_code(code)}"
        return failed(FailureReason.CONTAINER_EXIT, what, exit_code=code)

    def _stopped(self) -> Outcome:
        if self._reason == SHUTDOWN:
            return failed(FailureReason.GRACEFUL_SHUTDOWN, "The worker was shut down while the task ran")
        return cancelled(self._reason)

    async def _run(
        self, argv: Sequence[str], environment: Mapping[str, str], started: Callable[[], None] = lambda: None
    ) -> int | None:
        """Run a command and return its exit code; ``None`` where the task was stopped first."""
        if self._stopping.is_set():
            return None
        command = await self._processes.start(argv, environment)
        started()
        ended = asyncio.create_task(command.wait())
        try:
            if await ends_before(ended, self._stopping):
                return ended.result()
            await command.stop(self._plan.routine.grace)
            return None
        except asyncio.CancelledError:  # the event loop ends
            command.kill()
            raise
        finally:
            ended.cancel()
