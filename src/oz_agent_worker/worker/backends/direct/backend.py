"""The backend that runs tasks as processes of this host."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import SHUTDOWN, AdoptableExecution, LaunchError, OutputSink
from oz_agent_worker.worker.config.schema import DirectConfig
from oz_agent_worker.worker.events import Notify, WatchStatus, ignore_event
from oz_agent_worker.worker.peer import ControlPlanePeer
from oz_agent_worker.worker.task_spec import TaskSpec

from .agent_program import AgentSources
from .environment import HARNESS_HOMES, task_environment
from .execution import DirectExecution, ExecutionPlan, HostExecution, LostExecution
from .output import OutputPipe
from .records import RecordLock, RecordStore
from .task_processes import TaskCommands
from .workspace import WorkspaceRoot

__all__ = ["DirectBackend"]

logger = logging.getLogger(__name__)

#: How many folders are removed at a time: the other threads are for what cannot wait.
_REMOVALS: Final = 2


class DirectBackend:
    """Runs each task in a workspace of its own, or all of them in ``target_dir``.

    A task has ended when all its processes have, as ``processes`` finds them. A worker that is
    killed leaves them running; the next one over the same workspace root finds them by its
    journal and ends them.
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
        bundled_agent: str | None = None,
        peer: ControlPlanePeer | None = None,
        notify: Notify = ignore_event,
        grace: float = 10.0,
        teardown_timeout: float = 60.0,
        look_interval: float = 10.0,
    ) -> None:
        """Configure the backend. Times are in seconds.

        ``environ`` is the worker's environment. ``default_agent``, ``bundled_agent`` and ``peer`` are
        those of ``AgentSources``. ``grace`` is the time from TERM to KILL, ``teardown_timeout`` the
        longest that a teardown command may take, and ``look_interval`` the time between two scans for
        what a dead worker of this ID left.
        """
        self._config = config
        self._cleanup = cleanup
        self._environ = dict(environ)
        self._agents = AgentSources(
            configured=config.oz_path,
            environ=self._environ,
            default=default_agent,
            bundled=bundled_agent,
            peer=peer,
        )
        self._look_interval = look_interval
        self._commands = TaskCommands(
            worker=self._environ,
            setup_command=config.setup_command,
            teardown_command=config.teardown_command if cleanup else None,
            grace=grace,
            teardown_timeout=teardown_timeout,
            notify=notify,
        )
        target = Path(config.target_dir) if config.target_dir else None
        holder = f"worker {worker_id}, process {os.getpid()}"
        self._root = WorkspaceRoot(Path(config.workspace_root), target, holder=holder)
        self._records = RecordStore(self._root, worker_id)
        self._agent: str | None = None
        self._instance: str | None = None
        self._executions: dict[ExecutionKey, HostExecution] = {}
        self._removals = asyncio.Semaphore(_REMOVALS)
        self._removing: asyncio.Task[None] | None = None
        self._scanning: asyncio.Task[None] | None = None

    @property
    def instance(self) -> str | None:
        """The journal and this worker's slot in it; a restarted worker has the same (``instance_slots``)."""
        return self._instance

    def watches(self) -> Sequence[WatchStatus]:
        """None: the backend waits for processes."""
        return ()

    async def start(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Find the agent, show that workspaces and records can be made, and announce what was left.

        Raises:
            PreflightError: no agent, no workspace root, no journal, or no ``target_dir``.
        """
        agent = self._agents.choose()
        self._root.prepare()
        self._instance = self._records.open()
        self._agent = agent.path
        if self._config.teardown_command and not self._cleanup:
            logger.warning("backend.direct.teardown_command does not run: --no-cleanup leaves all as it is")
        await self._records.scan(found, self._follow)
        self._removing = asyncio.create_task(self._remove_leftovers())
        self._scanning = asyncio.create_task(self._keep_scanning(found))
        logger.info("Tasks run on this host with %s", agent)

    async def launch(
        self, spec: TaskSpec, output: OutputSink, cancelled: asyncio.Event | None = None
    ) -> HostExecution:
        """Write the record, make the workspace, and start the task.

        An execution that an earlier worker began does not run again: it is adopted as found.

        Raises:
            LaunchError: the task's ID names no folder, the folder or the record cannot be made,
                or another live worker has the execution.
        """
        async with self._records.taking:
            # No await in here, so that a second assignment of the execution cannot come between.
            if self._agent is None:
                raise LaunchError("the direct backend is not open")
            if running := self._executions.get(spec.key):
                return running
            if lock := self._records.take(spec.key):
                return self._adopt(lock, output)
            return self._begin(self._agent, spec, output)

    async def close(self) -> None:
        """End what runs. Records and workspaces of tasks that were not released stay in place."""
        self._agent = None
        await cancel_and_wait(self._scanning)
        executions = list(self._executions.values())
        await asyncio.gather(*(execution.stop(SHUTDOWN) for execution in executions))
        for execution in executions:
            execution.abandon()
        self._executions.clear()
        self._records.close()
        if self._removing is not None:
            await self._removing

    async def _remove_leftovers(self) -> None:
        try:
            await asyncio.to_thread(self._root.remove_leftovers)
        except Exception as error:  # noqa: BLE001  what others left is no reason to end
            logger.warning("Cannot remove what interrupted removals left: %r", error)

    async def _keep_scanning(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Scan at intervals: another worker of this ID over this root may die and not come back."""
        faults = FaultLog(logger, "Looking for what dead workers left")
        while True:
            await asyncio.sleep(self._look_interval)
            try:
                await self._records.scan(found, self._follow)
            except OSError as error:
                faults.failed("failed, and is tried again", error)
            else:
                faults.works()

    def _follow(self, key: ExecutionKey, output: OutputSink) -> HostExecution:
        """Adopt what a scan found, unless an assignment of it came first."""
        if running := self._executions.get(key):
            return running
        lock = self._records.take(key)
        assert lock is not None, "the scan holds it"
        return self._adopt(lock, output)

    def _adopt(self, lock: RecordLock, output: OutputSink) -> HostExecution:
        execution = LostExecution(lock, self._commands, output, self._give_back)
        self._executions[lock.record.key] = execution
        return execution

    def _begin(self, agent: str, spec: TaskSpec, output: OutputSink) -> HostExecution:
        try:
            pipe = OutputPipe(output)
        except OSError as error:
            raise LaunchError(f"no pipe for the task's output: {error.strerror}") from error
        try:
            harness = spec.harness if spec.harness in HARNESS_HOMES else None
            lock, workspace = self._records.begin(spec.key, harness)
        except BaseException:
            pipe.discard()
            raise
        plan = ExecutionPlan(
            agent=(agent, *spec.arguments),
            environment=task_environment(
                spec.key,
                spec.harness,
                workspace,
                grace=self._commands.grace,
                mark=lock.record.state.mark,
                variables=spec.environment,
            ),
            commands=self._commands,
        )
        execution = DirectExecution(plan, lock, workspace, pipe, self._give_back)
        self._executions[spec.key] = execution
        return execution

    async def _give_back(self, lock: RecordLock) -> None:
        key = lock.record.key
        self._executions.pop(key, None)
        async with self._removals:
            try:
                await asyncio.to_thread(lock.remove, workspace=self._cleanup)
            except Exception as error:  # noqa: BLE001  the task is reported: what it leaves must not fail it
                why = getattr(error, "strerror", None) or repr(error)
                logger.warning("Cannot remove what task %s left: %s", key, why)
