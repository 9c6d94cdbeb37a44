"""A worker in this process on a scripted control plane, to look at from outside."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from oz_agent_worker.cli.worker_config import load_worker_config
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.worker.app import WorkerOptions, run_worker
from oz_agent_worker.worker.config.load import WorkerConfig, WorkerFlags
from oz_agent_worker.worker.events import Notify
from oz_agent_worker.worker.probes.server import Endpoint
from tests.integration.worker.scripted_plane import Plane, plane_on
from tests.timeouts import HANG_TIMEOUT

__all__ = ["RunningWorker", "free_port", "running_worker"]

AGENT = '#!/bin/sh\ncase "$*" in *wait*) exec sleep 3600 ;; *fail*) exit 42 ;; esac\necho done\n'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RunningWorker:
    """A running worker and its control plane."""

    plane: Plane
    running: "asyncio.Task[None]"
    stop: asyncio.Event
    http: aiohttp.ClientSession

    async def get(self, port: int, path: str) -> tuple[int, str]:
        async with self.http.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()

    async def end(self) -> None:
        """End the worker as a signal does."""
        self.stop.set()
        async with asyncio.timeout(HANG_TIMEOUT):
            await self.running


def _config(folder: Path, plane: Plane, backend: Mapping[str, Any] | None) -> WorkerConfig:
    agent = folder / "oz"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    file = folder / "worker.yaml"
    direct = {"direct": {"workspace_root": str(folder / "work"), "oz_path": str(agent)}}
    file.write_text(json.dumps({"worker_id": "w", "backend": backend or direct}))
    flags = WorkerFlags(
        worker_id="w",
        api_key=Secret("canary-key"),
        config_file=str(file),
        web_socket_url=plane.url,
        max_concurrent_tasks=2,
    )
    return load_worker_config(flags, {})


@contextlib.asynccontextmanager
async def running_worker(
    folder: Path,
    plane: Plane,
    environ: dict[str, str],
    *,
    backend: Mapping[str, Any] | None = None,
    probes: Endpoint | None = None,
    listeners: Sequence[Notify] = (),
) -> AsyncIterator[RunningWorker]:
    """Run a worker with these variables; ``backend`` is that part of its config file, by default direct."""
    async with plane_on(plane), aiohttp.ClientSession() as http:
        config = _config(folder, plane, backend)
        stop = asyncio.Event()
        options = WorkerOptions(probes=probes, listeners=listeners, shutdown_grace=5.0)
        environ = {"PATH": os.environ["PATH"], **environ}
        running = asyncio.create_task(run_worker(config, options, stop=stop, environ=environ))
        worker = RunningWorker(plane, running, stop, http)
        try:
            yield worker
        finally:
            stop.set()
            async with asyncio.timeout(HANG_TIMEOUT):
                await asyncio.gather(running, return_exceptions=True)
