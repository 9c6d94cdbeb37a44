"""A direct backend's surroundings, as its tests use them."""

from pathlib import Path
from typing import Any

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.direct.backend import DirectBackend
from oz_agent_worker.worker.backends.direct.workspace import WorkspaceRoot
from oz_agent_worker.worker.config.schema import DirectConfig
from oz_agent_worker.worker.task_spec import TaskSpec
from tests.integration.worker.backends.harness import WORKER_ENVIRON, Recorder, Scratch, leave_alone

__all__ = ["Host", "entries", "journalled", "run"]


class Host:
    """An agent, a workspace root, a folder for notes, and the backends that close with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "ws"
        self.program = folder / "agent"
        (folder / "scratch").mkdir()
        self.scratch = Scratch(folder / "scratch")
        self.backends: list[DirectBackend] = []
        self.agent("note agent ran")

    def agent(self, script: str) -> None:
        """Decide what the agent does, with the means of ``Scratch.script``."""
        self.program.write_text(f"#!/bin/sh\n{self.scratch.script(script)}")
        self.program.chmod(0o755)

    async def backend(
        self, *, setup: str | None = None, teardown: str | None = None, cleanup: bool = True, **keys: Any
    ) -> DirectBackend:
        """Start a backend whose commands may leave notes."""
        config = DirectConfig(
            workspace_root=str(self.root),
            oz_path=str(self.program),
            setup_command=setup and self.scratch.script(setup),
            teardown_command=teardown and self.scratch.script(teardown),
            target_dir=keys.pop("target_dir", None),
        )
        found = keys.pop("found", leave_alone)
        backend = DirectBackend(
            config, worker_id="w", cleanup=cleanup, environ=WORKER_ENVIRON, grace=0.3, **keys
        )
        await backend.start(found)
        self.backends.append(backend)
        return backend

    def workspaces(self) -> list[str]:
        """Name the files under the workspace root, except the worker's own."""
        own = (".journal-", ".task-")
        return sorted(path.name for path in self.root.iterdir() if not path.name.startswith(own))

    def private(self, task_id: str = "run") -> Path:
        """Return the folder with the worker's own files for a task."""
        return WorkspaceRoot(self.root, holder="test").private(task_id)

    def records(self) -> list[Path]:
        """Return the records of executions in the journals under the workspace root."""
        return journalled(self.root)

    def left(self) -> list[str]:
        """Name the workspaces, the worker's own files for them, and the records of executions."""
        private = sorted(path.name for path in self.root.glob(".task-*"))
        return self.workspaces() + private + [record.name for record in self.records()]

    async def close(self) -> None:
        """Close every backend."""
        for backend in self.backends:
            await backend.close()


def journalled(root: Path) -> list[Path]:
    """Return the records of executions in the journals; their identities and slots are persistent."""
    files = sorted(root.glob(".journal-*/*"))
    return [path for path in files if path.name != "identity" and not path.name.startswith("slot-")]


async def run(backend: DirectBackend, spec: TaskSpec, output: Recorder | None = None) -> Outcome:
    """Run a task from launch to release."""
    execution = await backend.launch(spec, output or NoOutput())
    outcome = await execution.wait()
    await execution.release(outcome)
    return outcome


def entries(data: bytes) -> dict[str, str]:
    """Read what ``env -0`` printed."""
    return dict(entry.split("=", 1) for entry in data.decode().split("\0")[:-1])
