"""A worker on a scripted backend, linked to a scripted control plane."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from oz_agent_worker.core.logstream import LogBook
from oz_agent_worker.core.outbox import Outbox
from oz_agent_worker.core.outcome import succeeded
from oz_agent_worker.core.secret import Secret
from oz_agent_worker.core.taskspec import TaskSettings
from oz_agent_worker.link import Link, LinkSettings
from oz_agent_worker.worker import Worker, WorkerSettings
from tests.unit.scripted import ScriptedBackend

from .scripted_plane import Connection, Plane, plane_on

__all__ = ["KEY", "Station", "answer", "linked", "settings"]

KEY = "canary-key-51aa"


@dataclass
class Station:
    """A worker on a scripted backend, linked to a plane."""

    settings: LinkSettings
    backend: ScriptedBackend = field(default_factory=ScriptedBackend)
    outbox: Outbox = field(default_factory=Outbox)
    logs: LogBook = field(default_factory=LogBook)

    def __post_init__(self) -> None:
        tasks = TaskSettings(server_root_url="https://oz.test")
        worker_settings = WorkerSettings(worker_id="w", max_concurrent_tasks=1, tasks=tasks)
        self.worker = Worker(self.backend, worker_settings, self.outbox, self.logs)
        self.link = Link(self.settings, self.worker, self.outbox, self.logs)
        self.worker.uplink = self.link

    @property
    def idle(self) -> bool:
        return len(self.outbox) == 0 and self.worker.hello().executions == []

    def end(self, task_id: str = "run-1") -> None:
        execution = self.backend.executions[task_id]
        if not execution.ended.done():
            execution.output.write(b"the output\n")
            execution.ended.set_result(succeeded())


def settings(plane: Plane, **changes: Any) -> LinkSettings:
    made = LinkSettings(
        url=plane.url,
        worker_id="w",
        api_key=Secret(KEY),
        connect_timeout=5.0,
        retry_first=0.001,
        retry_cap=0.02,
    )
    return replace(made, **changes)


@contextlib.asynccontextmanager
async def linked(plane: Plane, **changes: Any) -> AsyncIterator[Station]:
    """A station whose link runs as long as the block."""
    async with plane_on(plane):
        station = Station(settings(plane, **changes))
        running = asyncio.create_task(station.link.run())
        try:
            yield station
        finally:
            station.link.stop()
            async with asyncio.timeout(5.0):
                await running
            await station.worker.drain(0.0)


async def answer(connection: Connection) -> None:
    await connection.answer()
