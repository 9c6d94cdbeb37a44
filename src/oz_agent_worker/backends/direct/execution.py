"""One execution on this host: setup command, agent, teardown command, and nothing left."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from oz_agent_worker.core.outcome import (
    FailureReason,
    Outcome,
    cancelled,
    describe_exit_code,
    failed,
    succeeded,
)
from oz_agent_worker.core.report import ExecutionKey
from oz_agent_worker.core.secret import Secret

from .command import Command, CommandNotStartedError
from .dotenv import DotenvError
from .environment import TaskEnvironment, read_environment_file
from .output import OutputPipe
from .processes import Kin, end_kin
from .workspace import Workspace

__all__ = ["DirectExecution", "Plan"]

logger = logging.getLogger(__name__)

#: How long, in seconds, what a command left running has between TERM and KILL.
SWEEP_GRACE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an execution runs. Times are in seconds; ``worker`` is the worker's environment."""

    key: ExecutionKey
    agent: Sequence[str] = field(repr=False)
    environment: TaskEnvironment
    worker: Mapping[str, str] = field(repr=False)
    setup_command: str | None
    teardown_command: str | None
    grace: float
    teardown_timeout: float


class DirectExecution:
    """An execution. It begins when it is made, in the running event loop."""

    def __init__(
        self,
        plan: Plan,
        workspace: Workspace,
        output: OutputPipe,
        give_back: Callable[[ExecutionKey, Workspace], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._workspace = workspace
        self._output = output
        self._give_back = give_back
        self._exported: Mapping[str, Secret] = {}
        self._sessions: set[int] = set()
        self._services: frozenset[int] = frozenset()
        self._stopping = asyncio.Event()
        self._reason = ""
        self._released = False
        self._life = asyncio.create_task(self._live(), name=f"direct {plan.key}")

    async def wait(self) -> Outcome:
        """Return how it ended; the teardown command has ended too."""
        return await asyncio.shield(self._life)

    async def stop(self, reason: str) -> None:
        """End it: the running command's process group gets TERM, and KILL after the grace.

        A setup command or an agent that has not begun does not begin. The teardown
        command runs as after every task, and has ended when this returns.
        """
        if not self._life.done():
            logger.info("Stopping task %s: %s", self._plan.key, reason)
            self._reason = self._reason or reason
            self._stopping.set()
            await asyncio.wait({self._life})

    async def release(self, outcome: Outcome) -> None:
        """Give the workspace back, which removes it where the settings say so."""
        if not self._released:
            self._released = True
            await self._give_back(self._plan.key, self._workspace)

    def abandon(self) -> None:
        """Let go of a workspace that nobody released, and leave it in its place."""
        if not self._released:
            self._released = True
            self._workspace.keep()

    async def _live(self) -> Outcome:
        plan = self._plan
        await self._output.open()
        try:
            if self._workspace.reused:  # its last holder may have died without ending its processes
                await self._sweep()
            outcome = await self._set_up() or await self._run_agent()
            await self._tear_down()
            return outcome
        finally:
            if plan.setup_command or plan.teardown_command:
                self._services = frozenset()
                await self._sweep()
            await self._output.drain()

    async def _set_up(self) -> Outcome | None:
        """Run the setup command; the outcome where the agent shall not run after it."""
        command = self._plan.setup_command
        if command is None:
            return None
        reason = FailureReason.SETUP_COMMAND
        try:
            code = await self._run(_shell(command), self._plan.environment.of_command(self._plan.worker, {}))
            if code is None:
                return cancelled(self._reason)
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
        self._services = frozenset((await asyncio.to_thread(self._kin().find)).values())
        return None

    async def _run_agent(self) -> Outcome:
        plan = self._plan
        try:
            code = await self._run(plan.agent, plan.environment.of_agent(plan.worker, self._exported))
        except CommandNotStartedError as error:
            return failed(FailureReason.AGENT_INVOCATION, f"The agent was not started: {error}")
        await self._sweep()
        if code is None:
            return cancelled(self._reason)
        if code == 0:
            return succeeded()
        what = f"The agent ended with {describe_exit_code(code)}"
        return failed(FailureReason.CONTAINER_EXIT, what, exit_code=code)

    async def _tear_down(self) -> None:
        """Run the teardown command. It changes no outcome, and ``stop`` does not cut it short."""
        plan = self._plan
        if plan.teardown_command is None:
            return
        environment = plan.environment.of_command(plan.worker, self._exported)
        try:
            command = await self._start(_shell(plan.teardown_command), environment)
        except CommandNotStartedError as error:
            logger.warning("Task %s: the teardown command was not started: %s", plan.key, error)
            return
        try:
            async with asyncio.timeout(plan.teardown_timeout):
                code = await command.wait()
        except TimeoutError:
            logger.warning(
                "Task %s: the teardown command took longer than %g s", plan.key, plan.teardown_timeout
            )
            await command.stop(SWEEP_GRACE)
            return
        if code != 0:
            logger.warning("Task %s: the teardown command ended with %s", plan.key, describe_exit_code(code))

    async def _run(self, argv: Sequence[str], environment: Mapping[str, str]) -> int | None:
        """Run a command and return its exit code; ``None`` where the task was stopped first."""
        if self._stopping.is_set():
            return None
        command = await self._start(argv, environment)
        ended = asyncio.create_task(command.wait())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            await command.stop(self._plan.grace)
            return None
        except asyncio.CancelledError:  # the event loop ends
            command.kill()
            raise
        finally:
            ended.cancel()
            stopped.cancel()

    async def _start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Command:
        command = await Command.start(
            argv,
            directory=self._workspace.directory,
            environment=environment,
            output=self._output.writer,
        )
        self._sessions.add(command.session)
        return command

    def _kin(self) -> Kin:
        mark = f"OZ_ENVIRONMENT_FILE={self._workspace.environment_file}"
        return Kin(os.fsencode(mark), frozenset(self._sessions), self._services)

    async def _sweep(self) -> None:
        if left := await end_kin(self._kin(), SWEEP_GRACE):
            logger.warning("Task %s: processes cannot be ended: %s", self._plan.key, sorted(left))


def _shell(command: str) -> tuple[str, ...]:
    return "/bin/sh", "-c", command
