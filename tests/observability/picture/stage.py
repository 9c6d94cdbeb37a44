"""What the run plays on: an API server with a played node, a control plane, two workers, Prometheus."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chaos.node import behaviour_of
from tests.chaos.processes import ROOT, python_path
from tests.chaos.records import Recorder
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet
from tests.cluster.processes import die_with_parent, free_ports
from tests.observability.prometheus import Programs, Prometheus, serving

__all__ = ["CLUSTER_WORKER", "HOST_WORKER", "Stage", "open_stage"]

CLUSTER_WORKER: Final = "cluster"
HOST_WORKER: Final = "build-host"
SCRAPE_INTERVAL: Final = 2
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR")
_PROGRAM: Final = (sys.executable, "-m", "oz_agent_worker")


@dataclass(frozen=True, slots=True)
class Stage:
    """A run that goes on; ``control_plane`` can be started again, on its own data."""

    url: str
    key: str
    prometheus: Prometheus
    control_plane: "Process"


class Process:
    """One of the product's programs, which can be started again."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], environment: dict[str, str], folder: Path
    ) -> None:
        self._command = (*_PROGRAM, *arguments)
        self._environment = environment
        self._log = folder / f"{name}.log"

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                preexec_fn=die_with_parent,
            )

    async def stop(self) -> None:
        """End it as a supervisor does, and wait."""
        self._process.terminate()
        await self._process.wait()


@asynccontextmanager
async def open_stage(folder: Path, programs: Programs) -> AsyncIterator[Stage]:
    """Start everything, and stop it in the end."""
    plane_port, first, second = free_ports(3)
    url = f"http://127.0.0.1:{plane_port}"
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": python_path()}
    key = await _key(environment)
    tier = ApiTier()
    await asyncio.to_thread(tier.start)
    try:
        namespace = await asyncio.to_thread(tier.create_namespace)
        plane = Process("control-plane", ("control-plane", "--port", str(plane_port)), environment, folder)
        backends = {
            CLUSTER_WORKER: (first, _kubernetes(tier, namespace)),
            HOST_WORKER: (second, _direct(folder)),
        }
        workers = [
            _worker(name, url, environment | {"WARP_API_KEY": key} | _exporter(port), folder, backend)
            for name, (port, backend) in backends.items()
        ]
        node = Kubelet(
            tier.connection("kubelet"), behaviour_of(Recorder(folder / "ran.jsonl")), namespaces=[namespace]
        )
        with serving(programs, folder, _scraped((first, second))) as prometheus:
            async with node, _running(plane, *workers):
                yield Stage(url, key, prometheus, plane)
    finally:
        await asyncio.to_thread(tier.close)


@asynccontextmanager
async def _running(*processes: Process) -> AsyncIterator[None]:
    started: list[Process] = []
    try:
        for process in processes:
            await process.start()
            started.append(process)
        yield
    finally:
        for process in reversed(started):
            await process.stop()


async def _key(environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *_PROGRAM, "control-plane", "create-key", "picture", env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().strip()


def _worker(name: str, url: str, environment: dict[str, str], folder: Path, backend: Any) -> Process:
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"backend": backend}))
    socket = f"{url.replace('http', 'ws', 1)}/api/v1/selfhosted/worker/ws"
    limit = "12" if name == CLUSTER_WORKER else "4"
    arguments = (
        "--worker-id", name, "--config-file", str(config), "--web-socket-url", socket,
        "--server-root-url", url, "--max-concurrent-tasks", limit,
    )  # fmt: skip
    return Process(name, arguments, environment, folder)


def _exporter(port: int) -> dict[str, str]:
    return {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}


def _kubernetes(tier: ApiTier, namespace: str) -> dict[str, Any]:
    section = {
        "namespace": namespace,
        "kubeconfig": str(tier.kubeconfig("worker", namespace)),
        "default_image": "registry.example.com/agents/base:1",
        "unschedulable_timeout": "5s",
        "pull_grace": "5s",
    }
    return {"kubernetes": section}


def _direct(folder: Path) -> dict[str, Any]:
    agent = folder / "agent"
    command = f"exec {sys.executable} -m tests.chaos.agent {folder / 'ran.jsonl'}"
    agent.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} {command} "$@"\n')
    agent.chmod(0o700)
    return {"direct": {"workspace_root": str(folder / "work"), "oz_path": str(agent)}}


def _scraped(ports: tuple[int, ...]) -> dict[str, Any]:
    targets = [f"127.0.0.1:{port}" for port in ports]
    return {
        "global": {"scrape_interval": f"{SCRAPE_INTERVAL}s"},
        "scrape_configs": [{"job_name": "oz-agent-worker", "static_configs": [{"targets": targets}]}],
    }
