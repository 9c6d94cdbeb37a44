"""The backend that runs tasks as processes of this host."""

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from oz_agent_worker.backends.base import Found, LaunchError, OutputSink
from oz_agent_worker.config.schema import DirectConfig
from oz_agent_worker.core.outcome import FailurePhase, FailureReason, failed
from oz_agent_worker.core.report import ExecutionKey
from oz_agent_worker.core.taskspec import TaskSpec
from oz_agent_worker.errors import PreflightError

from .environment import HARNESS_HOMES, task_environment
from .execution import DirectExecution, Plan
from .output import OutputPipe
from .workspace import Workspace, WorkspaceError, WorkspaceRoot

__all__ = ["DirectBackend", "find_agent"]

logger = logging.getLogger(__name__)

#: What the task's own ID or folder brings about. Anything else is the host's trouble, and
#: another worker, or this one later, may well run the task.
_TASK_TROUBLE: Final = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
#: Folders that are removed at a time: the rest of the threads is for what cannot wait.
_REMOVALS: Final = 2


class DirectBackend:
    """Runs each task in a workspace of its own, or all of them in ``target_dir``.

    A task's end is the end of all its processes, as ``processes`` finds them; a worker
    that is killed leaves them running, and the next execution of the run ends them.
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
        grace: float = 10.0,
        teardown_timeout: float = 60.0,
    ) -> None:
        """Configure the backend.

        ``environ`` is the worker's environment. ``default_agent`` is the agent's program
        where the configuration names none, before `oz` on PATH. ``grace``: seconds from
        TERM to KILL. ``teardown_timeout``: seconds that a teardown command may take.
        """
        self._config = config
        self._cleanup = cleanup
        self._environ = dict(environ)
        self._default_agent = default_agent
        self._grace = grace
        self._teardown_timeout = teardown_timeout
        target = Path(config.target_dir) if config.target_dir else None
        holder = f"worker {worker_id}, process {os.getpid()}"
        self._root = WorkspaceRoot(Path(config.workspace_root), target, holder=holder)
        self._agent: str | None = None
        self._executions: dict[ExecutionKey, DirectExecution] = {}
        self._removals = asyncio.Semaphore(_REMOVALS)
        self._leftovers: asyncio.Task[None] | None = None

    @property
    def instance(self) -> str | None:
        """Which of the workers of its ID this is."""
        return None

    async def start(self, found: Callable[[Found], None]) -> None:
        """Find the agent and show that workspaces can be made.

        Raises:
            PreflightError: no agent, no workspace root, or no ``target_dir``.
        """
        agent = find_agent(self._config.oz_path, self._default_agent, self._environ)
        self._root.prepare()
        self._agent = agent
        self._leftovers = asyncio.create_task(asyncio.to_thread(self._root.remove_leftovers))
        logger.info("Tasks run on this host with %s", agent)

    async def launch(self, spec: TaskSpec, output: OutputSink) -> DirectExecution:
        """Make the workspace and begin; setup command and agent are waited for by nobody here.

        Raises:
            LaunchError: the task's ID names no folder, or the folder cannot be had.
        """
        if self._agent is None:
            raise LaunchError("the direct backend is not open")
        key = ExecutionKey(spec.task_id, spec.execution_id)
        if standing := self._executions.get(key):
            return standing
        # Nothing here waits, so that a second assignment cannot come between.
        workspace = self._open_workspace(key, spec.harness)
        try:
            pipe = OutputPipe(output)
        except OSError as error:
            workspace.keep()
            raise LaunchError(f"no pipe for the task's output: {error.strerror}") from error
        plan = self._plan(self._agent, key, spec, workspace)
        execution = self._executions[key] = DirectExecution(plan, workspace, pipe, self._give_back)
        return execution

    async def close(self) -> None:
        """End what runs. Workspaces of tasks that were not released stay in their place."""
        self._agent = None
        executions = list(self._executions.values())
        await asyncio.gather(*(execution.stop("The worker was shut down") for execution in executions))
        for execution in executions:
            execution.abandon()
        self._executions.clear()
        if self._leftovers is not None:
            await self._leftovers

    def _open_workspace(self, key: ExecutionKey, harness: str | None) -> Workspace:
        try:
            return self._root.open(key, harness if harness in HARNESS_HOMES else None)
        except WorkspaceError as error:
            what = f"Task cannot have a workspace: {error}"
        except OSError as error:
            what = f"Task cannot have a workspace: {error.strerror}"
            if error.errno not in _TASK_TROUBLE:
                raise LaunchError(what) from error
        phase = FailurePhase.ASSIGNMENT
        raise LaunchError(what, failed(FailureReason.WORKSPACE_SETUP, what, phase=phase))

    def _plan(self, agent: str, key: ExecutionKey, spec: TaskSpec, workspace: Workspace) -> Plan:
        return Plan(
            key=key,
            agent=(agent, *spec.arguments),
            environment=task_environment(spec, workspace, grace=self._grace),
            worker=self._environ,
            setup_command=self._config.setup_command,
            teardown_command=self._config.teardown_command,
            grace=self._grace,
            teardown_timeout=self._teardown_timeout,
        )

    async def _give_back(self, key: ExecutionKey, workspace: Workspace) -> None:
        self._executions.pop(key, None)
        if not self._cleanup:
            workspace.keep()
            return
        async with self._removals:
            try:
                await asyncio.to_thread(workspace.remove)
            except OSError as error:
                logger.warning("Cannot remove the workspace of task %s: %s", key, error.strerror)


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
