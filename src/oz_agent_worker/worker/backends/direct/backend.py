"""The backend that runs tasks as processes of this host."""

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import (
    SHUTDOWN,
    AdoptableExecution,
    LaunchError,
    OutputSink,
    OwnedByAnotherWorkerError,
)
from oz_agent_worker.worker.backends.journal import HeldError, Journal, JournalError, UnreadableError
from oz_agent_worker.worker.config.schema import DirectConfig
from oz_agent_worker.worker.events import Notify, WatchStatus, ignore_event
from oz_agent_worker.worker.task_spec import TaskSpec

from .environment import HARNESS_HOMES, task_environment
from .execution import DirectExecution, ExecutionPlan, HostExecution, TaskCommands
from .instance_slots import InstanceSlots
from .output import OutputPipe
from .record import DirectState, RecordLock
from .recovery import LostExecution
from .recovery_scan import RecoveryScan
from .start import open_holding, withdraw
from .workspace import WorkspaceRoot

__all__ = ["DirectBackend", "find_agent", "prepare_journal"]

logger = logging.getLogger(__name__)

#: Folders that are removed at a time: the rest of the threads is for what cannot wait.
_REMOVALS: Final = 2


class DirectBackend:
    """Runs each task in a workspace of its own, or all of them in ``target_dir``.

    A task's end is the end of all its processes, as ``processes`` finds them. A worker that
    is killed leaves them running; the next one over the same workspace root finds them by
    its journal and ends them.
    """

    name = "direct"
    survives_worker = False

    def __init__(
        self,
        config: DirectConfig,
        *,
        worker_id: str,
        cleanup: bool,
        environ: Mapping[str, str],
        default_agent: str | None = None,
        notify: Notify = ignore_event,
        grace: float = 10.0,
        teardown_timeout: float = 60.0,
        look_interval: float = 10.0,
    ) -> None:
        """Configure the backend.

        ``environ`` is the worker's environment. ``default_agent`` is the agent's program
        where the configuration names none, before `oz` on PATH. ``grace``: seconds from
        TERM to KILL. ``teardown_timeout``: seconds that a teardown command may take.
        ``look_interval``: seconds between two looks for what a worker of this ID has left.
        """
        self._config = config
        self._cleanup = cleanup
        self._environ = dict(environ)
        self._default_agent = default_agent
        self._look_interval = look_interval
        self._routine = TaskCommands(
            worker=self._environ,
            setup_command=config.setup_command,
            teardown_command=config.teardown_command,
            grace=grace,
            teardown_timeout=teardown_timeout,
            notify=notify,
        )
        target = Path(config.target_dir) if config.target_dir else None
        holder = f"worker {worker_id}, process {os.getpid()}"
        self._root = WorkspaceRoot(Path(config.workspace_root), target, holder=holder)
        self._journal = Journal(self._root.journal(worker_id), DirectState)
        self._slots = InstanceSlots(self._journal.folder)
        self._leftovers = RecoveryScan(self._journal, self._root, self._slots)
        self._agent: str | None = None
        self._instance: str | None = None
        self._executions: dict[ExecutionKey, HostExecution] = {}
        self._removals = asyncio.Semaphore(_REMOVALS)
        self._removing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def instance(self) -> str | None:
        """The journal and this worker's slot there: one that is started anew has both again (``slots``)."""
        return self._instance

    def watches(self) -> Sequence[WatchStatus]:
        """None: the backend waits for processes."""
        return ()

    async def start(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Find the agent, show that workspaces and records can be made, and tell what was left.

        Raises:
            PreflightError: no agent, no workspace root, no journal, or no ``target_dir``.
        """
        agent = find_agent(self._config.oz_path, self._default_agent, self._environ)
        self._root.prepare()
        prepare_journal(self._journal)
        self._agent = agent
        self._instance = take_instance(self._journal, self._slots)
        await self._leftovers.look(found, self._follow)
        self._removing = asyncio.create_task(asyncio.to_thread(self._root.remove_leftovers))
        self._looking = asyncio.create_task(self._keep_looking(found))
        logger.info("Tasks run on this host with %s", agent)

    async def launch(self, spec: TaskSpec, output: OutputSink) -> HostExecution:
        """Write the record, make the workspace, and begin; nobody waits here for what runs.

        An execution that an earlier worker began does not run again: it is followed as found.

        Raises:
            LaunchError: the task's ID names no folder, the folder or the record cannot be had,
                or another live worker has the execution.
        """
        key = spec.key
        async with self._leftovers.quiet:
            # Nothing here waits, so that a second assignment cannot come between.
            if self._agent is None:
                raise LaunchError("the direct backend is not open")
            if standing := self._executions.get(key):
                return standing
            if holding := self._left_of(key):
                return self._resume(holding, output)
            return self._begin(self._agent, key, spec, output)

    async def close(self) -> None:
        """End what runs. Records and workspaces of tasks that were not released stay in their place."""
        self._agent = None
        await cancel_and_wait(self._looking)
        executions = list(self._executions.values())
        await asyncio.gather(*(execution.stop(SHUTDOWN) for execution in executions))
        for execution in executions:
            execution.abandon()
        self._executions.clear()
        self._leftovers.let_go()
        self._slots.close()
        if self._removing is not None:
            await self._removing

    # ------------------------------------------------------------ what dead workers left

    async def _keep_looking(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Look again and again: another worker of this ID over this root may die, and not come back."""
        while True:
            await asyncio.sleep(self._look_interval)
            try:
                await self._leftovers.look(found, self._follow)
            except OSError as error:
                logger.warning("Cannot look for what dead workers left: %s", error)

    def _left_of(self, key: ExecutionKey) -> RecordLock | None:
        """Take an execution that stands although this worker does not follow it."""
        try:
            return self._leftovers.take(key)
        except HeldError as error:
            raise OwnedByAnotherWorkerError(f"it runs on this host under another worker: {error}") from error
        except UnreadableError as error:
            # It was begun: it must not be again, here or elsewhere.
            raise LaunchError(str(error), failed(FailureReason.WORKER_LOST, str(error))) from error
        except OSError as error:
            raise OwnedByAnotherWorkerError(
                f"it was begun by a worker that died: {error.strerror}"
            ) from error

    def _follow(self, key: ExecutionKey, output: OutputSink) -> HostExecution:
        """Follow what was found; an assignment of it may have come first."""
        if standing := self._executions.get(key):
            return standing
        holding = self._leftovers.take(key)
        assert holding is not None, "it is held since it was found"
        return self._resume(holding, output)

    def _resume(self, holding: RecordLock, output: OutputSink) -> HostExecution:
        execution = LostExecution(holding, self._routine, output, self._give_back)
        self._executions[holding.entry.key] = execution
        return execution

    # --------------------------------------------------------------------- a task's start

    def _begin(self, agent: str, key: ExecutionKey, spec: TaskSpec, output: OutputSink) -> HostExecution:
        harness = spec.harness if spec.harness in HARNESS_HOMES else None
        holding, workspace = open_holding(self._journal, self._root, self._slots, key, harness)
        try:
            pipe = OutputPipe(output)
        except OSError as error:
            withdraw(holding, workspace)
            raise LaunchError(f"no pipe for the task's output: {error.strerror}") from error
        mark = holding.entry.state.mark
        plan = ExecutionPlan(
            agent=(agent, *spec.arguments),
            environment=task_environment(spec, workspace, grace=self._routine.grace, mark=mark),
            routine=self._routine,
        )
        execution = self._executions[key] = DirectExecution(plan, holding, workspace, pipe, self._give_back)
        return execution

    async def _give_back(self, holding: RecordLock) -> None:
        key = holding.entry.key
        self._executions.pop(key, None)
        async with self._removals:
            try:
                await asyncio.to_thread(holding.remove, workspace=self._cleanup)
            except OSError as error:
                logger.warning("Cannot remove what task %s left: %s", key, error.strerror)


def prepare_journal(journal: Journal[DirectState]) -> None:
    """Create the journal's folder and show that it can hold records.

    Raises:
        PreflightError: it cannot.
    """
    try:
        journal.prepare()
    except OSError as error:
        raise _no_journal(journal, error) from error


def take_instance(journal: Journal[DirectState], slots: InstanceSlots) -> str:
    """Take a slot in a journal that was prepared, and name the worker by both.

    The host's name and the root's path are no part of it: two machines may have both alike.

    Raises:
        PreflightError: there is no slot or no name to be had.
    """
    try:
        identity = journal.identity()
        slots.open()
    except OSError as error:
        raise _no_journal(journal, error) from error
    except JournalError as error:
        raise PreflightError(
            f"backend.direct.workspace_root: {error}. Remove the file: the journal gets another name"
        ) from error
    return f"host/{identity}/{slots.own}"


def _no_journal(journal: Journal[DirectState], error: OSError) -> PreflightError:
    return PreflightError(
        f"backend.direct.workspace_root: {error.filename or journal.folder} cannot hold the "
        f"records of tasks: {error.strerror}. Remove what stands there, let the worker's user write "
        "there, or set workspace_root to a folder of a local file system"
    )


def find_agent(configured: str | None, default: str | None, environ: Mapping[str, str]) -> str:
    """Return the absolute path of the agent's program.

    Raises:
        PreflightError: there is none, or it cannot be executed.
    """
    wanted = configured or default
    path = environ.get("PATH", os.defpath)
    program = shutil.which(os.path.expanduser(wanted or "oz"), path=path)  # noqa: PTH111 - may be a bare name
    if program is not None:
        return os.path.abspath(program)  # noqa: PTH100 - a link may be what chooses the program's version
    if wanted is None:
        raise PreflightError(
            "no agent: `oz` is not on PATH. Install the Oz CLI, "
            "or set backend.direct.oz_path to the agent's program"
        )
    where = "backend.direct.oz_path" if configured else "the built-in agent"
    raise PreflightError(
        f"{where}: {wanted} does not exist or cannot be executed. "
        "Correct the path, or make the file executable with chmod +x"
    )
