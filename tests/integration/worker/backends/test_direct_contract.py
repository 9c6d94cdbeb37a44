from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.base import AdoptableExecution, Backend
from oz_agent_worker.worker.backends.direct.backend import DirectBackend
from oz_agent_worker.worker.config.schema import DirectConfig

from .contract import BackendContract
from .direct.host import journalled
from .harness import WORKER_ENVIRON, Harness, Scratch, leave_alone


class DirectHarness:
    """The direct backend over folders of this test."""

    streams = True

    def __init__(self, folder: Path) -> None:
        self._program = folder / "agent"
        self._root = folder / "workspaces"
        self._backends: list[Backend] = []
        scratch = folder / "scratch"
        scratch.mkdir()
        self.scratch = Scratch(scratch)
        self.agent("exit 0")

    def agent(self, script: str) -> None:
        self._program.write_text(f"#!/bin/sh\n{script}\n")
        self._program.chmod(0o755)

    async def backend(
        self, *, cleanup: bool = True, found: Callable[[AdoptableExecution], None] = leave_alone
    ) -> Backend:
        config = DirectConfig(workspace_root=str(self._root), oz_path=str(self._program))
        backend = DirectBackend(
            config, worker_id="contract", cleanup=cleanup, environ=WORKER_ENVIRON, grace=0.3
        )
        await backend.start(found)
        self._backends.append(backend)
        return backend

    async def left(self) -> list[str]:
        journals = [path for path in self._root.iterdir() if path.name.startswith(".journal-")]
        records = [record.name for record in journalled(self._root)]
        return records + [path.name for path in self._root.iterdir() if path not in journals]

    async def close(self) -> None:
        for backend in self._backends:
            await backend.close()


class TestDirectContract(BackendContract):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[Harness]:
        harness = DirectHarness(tmp_path)
        yield harness
        await harness.close()
