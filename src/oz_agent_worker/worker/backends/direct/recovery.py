"""An execution whose worker died: what is left of it is ended, and what became of it is told."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, failed
from oz_agent_worker.worker.backends.base import OutputSink

from .dotenv import DotenvError
from .environment import lost_environment, read_environment_file
from .execution import HostExecution, TaskCommands
from .output import OutputPipe
from .processes import boot_id, end_kin
from .record import DirectState, RecordLock, conclude, lost_kin
from .task_processes import TaskProcesses
from .workspace import Workspace

__all__ = ["LostExecution"]

logger = logging.getLogger(__name__)


class LostExecution(HostExecution):
    """An execution that a dead worker began.

    Its processes are ended first. Where its record tells how it ended, that is the outcome,
    and the teardown command has begun already; else it failed with its worker, and the
    teardown command runs as after every task. ``stop`` has nothing to add.
    """

    def __init__(
        self,
        holding: RecordLock,
        routine: TaskCommands,
        output: OutputSink,
        give_back: Callable[[RecordLock], Awaitable[None]],
    ) -> None:
        self._routine = routine
        self._output = output
        super().__init__(holding, give_back)

    async def _live(self) -> Outcome:
        entry = self._holding.entry
        if left := await end_kin(lost_kin(entry.state), self._routine.grace):
            logger.warning("Task %s: processes cannot be ended: %s", entry.key, sorted(left))
        if entry.outcome is not None:
            return entry.outcome
        outcome = _lost(entry.state)
        await conclude(entry, outcome)
        if self._routine.teardown_command and self._holding.workspace is not None:
            await self._tear_down(self._holding.workspace)
        return outcome

    async def _tear_down(self, workspace: Workspace) -> None:
        entry, routine = self._holding.entry, self._routine
        try:
            output = OutputPipe(self._output)
        except OSError as error:
            logger.warning(
                "Task %s: no pipe for the teardown command, which is not run: %s", entry.key, error.strerror
            )
            return
        await output.open()
        processes = TaskProcesses(entry, workspace.directory, output.writer)
        environment = lost_environment(
            entry.key.task_id, entry.state.harness, workspace, grace=routine.grace, mark=entry.state.mark
        ).of_command(routine.worker, self._exported(workspace))
        try:
            await processes.tear_down(routine.teardown_command, environment, routine.teardown_timeout)
        finally:
            await processes.sweep()
            await output.drain()

    def _exported(self, workspace: Workspace) -> Mapping[str, Secret]:
        """What the setup command has exported, as far as it stands."""
        try:
            return read_environment_file(workspace.environment_file)
        except (DotenvError, OSError) as error:
            what = error.strerror if isinstance(error, OSError) else error
            logger.warning(
                "Task %s: the teardown command runs without what the setup command exported: %s",
                self._holding.entry.key,
                what,
            )
            return {}


def _lost(state: DirectState) -> Outcome:
    if state.boot == boot_id():
        what = "The worker that ran the task died; what was left of the task has been ended"
    else:
        what = "The host was restarted while the task ran"
    return failed(FailureReason.WORKER_LOST, what)
