"""One execution on this host: setup command, agent, teardown command, and no process left."""

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
from oz_agent_worker.worker.backends.base import SHUTDOWN, OutputSink
from oz_agent_worker.worker.events import EventKind, TaskEvent

from .environment import TaskEnvironment, task_environment
from .output import OutputPipe
from .processes import CommandNotStartedError, ProcessSet, boot_id
from .records import DirectState, RecordLock, conclude, lost_processes
from .task_processes import SWEEP_GRACE, TaskCommands, TaskProcesses, end_and_warn, shell
from .workspace import Workspace

__all__ = ["DirectExecution", "ExecutionPlan", "HostExecution", "LostExecution"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPlan:
    """What an execution runs."""

    agent: Sequence[str] = field(repr=False)
    environment: TaskEnvironment
    commands: TaskCommands


class HostExecution(ABC):
    """An execution of this backend. Creating one starts it, in the running event loop.

    ``give_back`` takes the lock when the execution is released.
    """

    def __init__(self, lock: RecordLock, give_back: Callable[[RecordLock], Awaitable[None]]) -> None:
        self._lock = lock
        self._key = lock.record.key
        self._give_back = give_back
        self._released = False
        self._task = asyncio.create_task(self._run(), name=f"direct {self._key}")

    @abstractmethod
    async def _run(self) -> Outcome:
        """Run the execution to its end, and return its outcome, which is in the record by then."""

    async def wait(self) -> Outcome:
        """Return how it ended; the teardown command has ended too."""
        return await asyncio.shield(self._task)

    async def stop(self, reason: str) -> None:
        """Return when it has ended."""
        await asyncio.wait({self._task})

    async def release(self, outcome: Outcome) -> None:
        """Give back record and workspace; the settings say whether the workspace is removed."""
        if not self._released:
            self._released = True
            await self._give_back(self._lock)

    def abandon(self) -> None:
        """Leave record and workspace in place for the next worker, unless they were released."""
        if not self._released:
            self._released = True
            self._lock.let_go()


class DirectExecution(HostExecution):
    """An execution that this worker began."""

    def __init__(
        self,
        plan: ExecutionPlan,
        lock: RecordLock,
        workspace: Workspace,
        output: OutputPipe,
        give_back: Callable[[RecordLock], Awaitable[None]],
    ) -> None:
        self._agent, self._environment, self._commands = plan.agent, plan.environment, plan.commands
        self._workspace = workspace
        self._output = output
        self._processes = TaskProcesses(lock.record, workspace.directory, output.writer)
        self._exported: Mapping[str, Secret] = {}
        self._services: frozenset[int] = frozenset()
        self._stopping = asyncio.Event()
        self._reason = ""
        super().__init__(lock, give_back)

    async def stop(self, reason: str) -> None:
        """End it: the running command's process group gets TERM, and KILL after the grace.

        A setup command or an agent that has not started is not started. The teardown command
        runs as after every task, and has ended when this returns.
        """
        if not self._task.done():
            logger.info("Stopping task %s: %s", self._key, reason)
            self._reason = self._reason or reason
            self._stopping.set()
        await super().stop(reason)

    async def _run(self) -> Outcome:
        await self._output.open()
        try:
            if self._workspace.reused:
                await self._end_earlier()
            outcome = await self._set_up() or await self._run_agent()
            # The outcome is on the disk before the teardown command starts, so that it never runs twice.
            written = await conclude(self._lock.record, outcome)
            environment = self._environment.of_teardown(self._commands.worker, self._exported)
            await self._processes.tear_down(self._commands, environment)
            if not written:  # the teardown command may have made room
                await conclude(self._lock.record, outcome)
            return outcome
        finally:
            if self._commands.setup_command or self._commands.teardown_command:
                await self._processes.sweep()
            await self._output.drain()

    async def _end_earlier(self) -> None:
        """End the processes of an earlier holder of the workspace that died and has no record here."""
        mark = f"OZ_ENVIRONMENT_FILE={self._workspace.environment_file}"
        await end_and_warn(self._key, ProcessSet(os.fsencode(mark)), SWEEP_GRACE)

    async def _set_up(self) -> Outcome | None:
        """Run the setup command; return an outcome if the agent must not run after it."""
        command = self._commands.setup_command
        if command is None:
            return None
        reason = FailureReason.SETUP_COMMAND
        environment = self._environment.of_setup(self._commands.worker)
        try:
            code = await self._run_command(shell(command), environment)
            if code is None:
                return self._stopped()
            if code != 0:
                what = f"The setup command ended with {describe_exit_code(code)}"
                return failed(reason, what, exit_code=code)
            file = await asyncio.to_thread(self._environment.read_file, self._commands.worker)
        except CommandNotStartedError as error:
            return failed(reason, f"The setup command was not started: {error}")
        except OSError as error:
            why = error.strerror or error
            return failed(reason, f"The setup command's environment file cannot be read: {why}")
        file.log_notes(self._key)
        self._exported = file.variables
        # What it left running serves the agent, and is ended after the teardown command.
        self._services = await self._processes.running_sessions()
        return None

    async def _run_agent(self) -> Outcome:
        environment = self._environment.of_agent(self._commands.worker, self._exported)
        started = TaskEvent(EventKind.AGENT_STARTED, self._key)
        try:
            code = await self._run_command(self._agent, environment, lambda: self._commands.notify(started))
        except CommandNotStartedError as error:
            reason = FailureReason.TASK_TOO_LARGE if error.too_large else FailureReason.AGENT_INVOCATION
            return failed(reason, f"The agent was not started: {error}")
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

    async def _run_command(
        self, argv: Sequence[str], environment: Mapping[str, str], started: Callable[[], None] = lambda: None
    ) -> int | None:
        """Run a command and return its exit code; ``None`` if the task was stopped first."""
        if self._stopping.is_set():
            return None
        command = await self._processes.start(argv, environment)
        started()
        ended = asyncio.create_task(command.wait())
        try:
            if await ends_before(ended, self._stopping):
                return ended.result()
            await command.stop(self._commands.grace)
            return None
        except asyncio.CancelledError:  # the event loop ends
            command.kill()
            raise
        finally:
            ended.cancel()


class LostExecution(HostExecution):
    """An execution that a worker began that has died.

    Its remaining processes are ended first. If its record has an outcome, that is the outcome,
    and the teardown command was started already. Otherwise the execution failed with its worker,
    and the teardown command runs as after every task. ``stop`` only waits for the end.
    """

    def __init__(
        self,
        lock: RecordLock,
        commands: TaskCommands,
        output: OutputSink,
        give_back: Callable[[RecordLock], Awaitable[None]],
    ) -> None:
        self._commands = commands
        self._output = output
        super().__init__(lock, give_back)

    async def _run(self) -> Outcome:
        record = self._lock.record
        await end_and_warn(self._key, lost_processes(record.state), self._commands.grace)
        if record.outcome is not None:
            return record.outcome
        outcome = _lost(record.state)
        await conclude(record, outcome)
        if self._commands.teardown_command and self._lock.workspace is not None:
            await self._tear_down(self._lock.workspace)
        return outcome

    async def _tear_down(self, workspace: Workspace) -> None:
        record, commands = self._lock.record, self._commands
        try:
            output = OutputPipe(self._output)
        except OSError as error:
            logger.warning("Task %s: the teardown command does not run: %s", self._key, error.strerror)
            return
        await output.open()
        processes = TaskProcesses(record, workspace.directory, output.writer)
        layers = task_environment(
            self._key, record.state.harness, workspace, grace=commands.grace, mark=record.state.mark
        )
        environment = layers.of_teardown(commands.worker, await self._exported(layers))
        try:
            await processes.tear_down(commands, environment)
        finally:
            await processes.sweep()
            await output.drain()

    async def _exported(self, layers: TaskEnvironment) -> Mapping[str, Secret]:
        """What the setup command exported, as far as it can be read."""
        try:
            file = await asyncio.to_thread(layers.read_file, self._commands.worker)
        except OSError as error:
            logger.warning(
                "Task %s: the teardown command runs without what the setup command exported: %s",
                self._key,
                error.strerror or error,
            )
            return {}
        file.log_notes(self._key)
        return file.variables


def _lost(state: DirectState) -> Outcome:
    if state.boot == boot_id():
        what = "The worker that ran the task died; what was left of the task has been ended"
    else:
        what = "The host was restarted while the task ran"
    return failed(FailureReason.WORKER_LOST, what)
