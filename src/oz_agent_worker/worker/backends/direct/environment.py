"""The environment of a task's processes.

The agent gets ``HOME``, ``TMPDIR`` and ``PATH`` of the worker's own environment; the operator's
setup and teardown commands get all of it except the worker's API key. Added to that, with later
layers winning: the task's variables, the task's own files for git and the harness, what the setup
command exported, and this backend's ``OZ_*``.
"""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.report import ExecutionKey

from .dotenv import parse_dotenv
from .workspace import Workspace

__all__ = [
    "HARNESS_HOMES",
    "MARK",
    "TaskEnvironment",
    "read_environment_file",
    "task_environment",
]

#: The variable with a random value of the execution, by which its processes are found.
MARK: Final = "OZ_EXECUTION_MARK"
INHERITED: Final = ("HOME", "TMPDIR", "PATH")
#: The worker's own secrets. A variable with the same name in the task's own environment stays.
WITHHELD: Final = frozenset({"WARP_API_KEY"})
#: The variable with the folder of a harness's settings and sessions.
HARNESS_HOMES: Final = {"claude": "CLAUDE_CONFIG_DIR", "codex": "CODEX_HOME"}
#: The largest environment file that is read, in bytes.
MAX_ENVIRONMENT_FILE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TaskEnvironment:
    """The layers of one execution's environment; ``own`` wins over ``task``."""

    task: Mapping[str, Secret]
    own: Mapping[str, str]

    def of_agent(self, worker: Mapping[str, str], exported: Mapping[str, Secret]) -> dict[str, str]:
        """The agent's environment, in clear, for the call that starts the agent."""
        inherited = {name: worker[name] for name in INHERITED if name in worker}
        return inherited | self._layers(exported)

    def of_command(self, worker: Mapping[str, str], exported: Mapping[str, Secret]) -> dict[str, str]:
        """The environment of a setup or teardown command, in clear."""
        inherited = {name: value for name, value in worker.items() if name not in WITHHELD}
        return inherited | self._layers(exported)

    def _layers(self, exported: Mapping[str, Secret]) -> dict[str, str]:
        secrets = {**self.task, **exported}
        return {name: value.reveal() for name, value in secrets.items()} | dict(self.own)


def task_environment(
    key: ExecutionKey,
    harness: str | None,
    workspace: Workspace,
    *,
    grace: float,
    mark: str,
    variables: Mapping[str, Secret] | None = None,
) -> TaskEnvironment:
    """The layers for a task in its workspace.

    ``grace`` is the time from TERM to KILL, in seconds; ``mark`` is the execution's. ``variables``
    are the task's own, which are lost when the worker of a task has died.
    """
    files = {
        "GIT_CONFIG_GLOBAL": str(workspace.git_config),
        # Less than the agent's own grace, so that the agent can end its harness within it.
        "OZ_AGENT_GRACE_SECONDS": f"{grace * 0.8:g}",
    }
    if harness in HARNESS_HOMES:
        files[HARNESS_HOMES[harness]] = str(workspace.harness_home(harness))
    own = {
        "OZ_WORKSPACE_ROOT": str(workspace.directory),
        "OZ_WORKER_BACKEND": "direct",
        "OZ_RUN_ID": key.task_id,
        "OZ_ENVIRONMENT_FILE": str(workspace.environment_file),
        MARK: mark,
    }
    secrets = {name: Secret(value) for name, value in files.items()}
    return TaskEnvironment(task={**(variables or {}), **secrets}, own=own)


def read_environment_file(path: Path) -> dict[str, Secret]:
    """Read what a setup command exported: nothing, if it removed the file.

    Raises:
        DotenvError: an entry cannot be read.
        OSError: the file cannot be read.
    """
    try:
        # A FIFO in its place must not block the worker.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(MAX_ENVIRONMENT_FILE + 1)
    if len(data) > MAX_ENVIRONMENT_FILE:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_ENVIRONMENT_FILE} bytes")
    # Variables are bytes to the system: what is not UTF-8 reaches the agent unchanged.
    return parse_dotenv(os.fsdecode(data))
