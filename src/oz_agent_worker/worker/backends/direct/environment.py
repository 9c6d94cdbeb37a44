"""The environment of a task's processes.

The agent gets ``HOME``, ``TMPDIR`` and ``PATH`` of the worker's own environment; the operator's
setup and teardown commands get all of it except the worker's API key. Added to that, with later
layers winning: the task's variables (but not for the teardown command), the harness's files, what
the setup command exported, and what keeps the task apart from others: this backend's ``OZ_*`` and the
task's own git configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.report import ExecutionKey

from .environment_file import EnvironmentFile, read_environment_file
from .workspace import Workspace

__all__ = ["HARNESS_HOMES", "MARK", "TaskEnvironment", "task_environment"]

#: The variable with a random value of the execution, by which its processes are found.
MARK: Final = "OZ_EXECUTION_MARK"
INHERITED: Final = ("HOME", "TMPDIR", "PATH")
#: The worker's own secrets. A variable with the same name in the task's own environment stays.
WITHHELD: Final = frozenset({"WARP_API_KEY"})
#: The variable with the folder of a harness's settings and sessions.
HARNESS_HOMES: Final = {"claude": "CLAUDE_CONFIG_DIR", "codex": "CODEX_HOME"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnvironment:
    """The layers of one execution's environment: ``task``, ``files``, what was exported, ``own``."""

    task: Mapping[str, Secret]
    files: Mapping[str, str]
    own: Mapping[str, str]

    def of_agent(self, worker: Mapping[str, str], exported: Mapping[str, Secret]) -> dict[str, str]:
        """The agent's environment, in clear, for the call that starts the agent."""
        inherited = {name: worker[name] for name in INHERITED if name in worker}
        return inherited | _clear(self.task) | self._layers(exported)

    def of_setup(self, worker: Mapping[str, str]) -> dict[str, str]:
        """The environment of the setup command, in clear."""
        return _inherited(worker) | _clear(self.task) | self._layers({})

    def of_teardown(self, worker: Mapping[str, str], exported: Mapping[str, Secret]) -> dict[str, str]:
        """The environment of the teardown command, in clear: without the task's variables.

        So it is the same for an execution that another worker began, whose variables are lost.
        """
        return _inherited(worker) | self._layers(exported)

    def read_file(self, worker: Mapping[str, str]) -> EnvironmentFile:
        """Read what the setup command exported. Blocks.

        Raises:
            OSError: the file cannot be read.
        """
        path = Path(self.own["OZ_ENVIRONMENT_FILE"])
        return read_environment_file(path, before=self.of_setup(worker), own=self.own, mark=MARK)

    def _layers(self, exported: Mapping[str, Secret]) -> dict[str, str]:
        return {**self.files, **_clear(exported), **self.own}


def _clear(variables: Mapping[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in variables.items()}


def _inherited(worker: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in worker.items() if name not in WITHHELD}


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
        "GIT_CONFIG_GLOBAL": str(workspace.git_config),
    }
    return TaskEnvironment(task=variables or {}, files=files, own=own)
