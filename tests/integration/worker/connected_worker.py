"""A worker on a scripted backend, connected to a scripted control plane."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.protocol.outcome import succeeded
from oz_agent_worker.worker.connection import Connection, ConnectionSettings
from oz_agent_worker.worker.task_spec import TaskSettings
from oz_agent_worker.worker.worker import Worker, WorkerSettings
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.scripted import ScriptedBackend

from .scripted_plane import PeerConnection, Plane, plane_on

__all__ = ["KEY", "ConnectedWorker", "answer", "connected_worker", "settings"]

KEY = "canary-key-51aa"


@dataclass
class ConnectedWorker:
    """A worker on a scripted backend, with its connection to a control plane."""

    settings: ConnectionSettings
    backend: ScriptedBackend = field(default_factory=ScriptedBackend)
    outbox: Outbox = field(default_factory=Outbox)
    logs: LogBuffers = field(default_factory=LogBuffers)

    def __post_init__(self) -> None:
        tasks = TaskSettings(server_root_url="https://oz.test")
        worker_settings = WorkerSettings(worker_id="w", max_concurrent_tasks=1, tasks=tasks)
        self.worker = Worker(self.backend, worker_settings, self.outbox, self.logs)
        self.connection = Connection(self.settings, self.worker, self.outbox, self.logs)
        self.worker.connection = self.connection

    @property
    def idle(self) -> bool:
        return len(self.outbox) == 0 and not self.worker.hello().executions

    def end(self, task_id: str = "run-1") -> None:
        execution = self.backend.executions[task_id]
        if not execution.ended.done():
            execution.output.write(b"the output\n")
            execution.ended.set_result(succeeded())


def settings(plane: Plane, **changes: Any) -> ConnectionSettings:
    made = ConnectionSettings(
        url=plane.url,
        worker_id="w",
        api_key=Secret(KEY),
        connect_timeout=HANG_TIMEOUT,
        retry_first=0.001,
        retry_cap=0.02,
    )
    return replace(made, **changes)


@contextlib.asynccontextmanager
async def connected_worker(plane: Plane, **changes: Any) -> AsyncIterator[ConnectedWorker]:
    """Run a worker and its connection for as long as the block."""
    async with plane_on(plane):
        client = ConnectedWorker(settings(plane, **changes))
        running = asyncio.create_task(client.connection.run())
        try:
            yield client
        finally:
            client.connection.stop()
            async with asyncio.timeout(HANG_TIMEOUT):
                await running
            await client.worker.drain(0.0)


async def answer(connection: PeerConnection) -> None:
    await connection.answer()
