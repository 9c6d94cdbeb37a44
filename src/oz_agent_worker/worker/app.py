"""The composition root: a worker put together from its configuration, and run.

control plane ⇄ link ⇄ worker ⇄ backend ⇄ where the tasks run
                   outbox, logs: what is owed to the control plane
all of them → notices → telemetry: metrics, traces, fields of the log; lookout: probes, scrapes
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from oz_agent_worker import __version__
from oz_agent_worker.common.aio import cancel_and_wait, ends_before
from oz_agent_worker.common.proxy import proxy_for
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Outbox

from .backends.base import Backend
from .backends.registry import BACKENDS, BackendContext
from .config.load import WorkerConfig
from .config.schema import KubernetesConfig
from .connection import Connection, ConnectionSettings
from .events import Notify, ignore_event
from .probes.health import Health
from .probes.probe_ports import ProbePorts
from .probes.server import Endpoint
from .task_spec import TaskSettings
from .telemetry.resource import Identity
from .telemetry.sources import Subjects
from .telemetry.telemetry import Telemetry
from .worker import Worker, WorkerSettings

__all__ = ["WorkerOptions", "build_backend", "run_worker", "task_settings"]

logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How the worker's process behaves; times in seconds.

    ``default_agent`` is the agent's program for the direct backend where neither
    ``oz_path`` nor an ``oz`` on PATH is there. ``probes`` is where health is served.
    ``listeners`` hear of everything that is noticed.
    """

    exit_on_auth_failure: bool = False
    shutdown_grace: float = 25.0
    default_agent: str | None = None
    probes: Endpoint | None = None
    listeners: Sequence[Notify] = ()


async def run_worker(
    config: WorkerConfig, options: WorkerOptions, *, stop: asyncio.Event, environ: Mapping[str, str]
) -> None:
    """Run a worker until ``stop`` is set.

    Raises:
        UsageError: there is no such backend, the probes cannot be served, or a variable names no proxy.
        PreflightError: the backend cannot run tasks.
        AuthRefusedError: the key was refused and the options say to exit then.
    """
    telemetry = Telemetry(options.listeners)
    notify = telemetry.notify
    backend = build_backend(config, options, environ, notify)
    for notice in config.notices:
        logger.warning("%s", notice)
    logger.info(
        "oz-agent-worker %s, worker ID %s, backend %s", __version__, config.worker_id, config.backend_name
    )
    outbox, logs = Outbox(clock=time.monotonic), LogBuffers()
    worker = Worker(backend, _worker_settings(config), outbox, logs, notify)
    link = worker.connection = Connection(
        _link_settings(config, options, environ), worker, outbox, logs, notify=notify
    )
    health = Health(connected=lambda: link.connected, watches=backend.watches)
    telemetry.begin(environ, _identity(config))
    telemetry.watch(Subjects(outbox, backend.watches))
    try:
        async with ProbePorts(options.probes, health, telemetry):
            if await _started(backend, worker, stop):
                health.preflight_passed = True
                await _serve(worker, link, health, stop, options.shutdown_grace)
    finally:
        await backend.close()
        await telemetry.close()
        logger.info("Stopped")


async def _started(backend: Backend, worker: Worker, stop: asyncio.Event) -> bool:
    """Start the backend; give up, and return false, where ``stop`` comes first."""
    starting = asyncio.create_task(backend.start(worker.adopt), name="backend-start")
    if not await ends_before(starting, stop):
        await cancel_and_wait(starting)
        return False
    starting.result()
    return True


async def _serve(worker: Worker, link: Connection, health: Health, stop: asyncio.Event, grace: float) -> None:
    connection = asyncio.create_task(link.run(), name="link")
    try:
        await ends_before(connection, stop)
        health.stopping = True
        link.reconnect_now()
        await worker.drain(grace)
    finally:
        link.stop()
        await connection


def build_backend(
    config: WorkerConfig, options: WorkerOptions, environ: Mapping[str, str], notify: Notify = ignore_event
) -> Backend:
    """Make the configured backend. Only its own libraries are imported.

    Raises:
        UsageError: this version has no such backend.
        ConfigError: the backend's settings contradict each other.
    """
    entry = BACKENDS[config.backend_name]
    if entry.create is None:
        raise entry.not_implemented()
    context = BackendContext(
        worker_id=config.worker_id,
        cleanup=config.cleanup,
        environ=environ,
        default_agent=options.default_agent,
        notify=notify,
    )
    return entry.create(config.backend, context)


def task_settings(config: WorkerConfig) -> TaskSettings:
    """What the configuration adds to every task."""
    kubernetes = config.backend if isinstance(config.backend, KubernetesConfig) else None
    return TaskSettings(
        server_root_url=config.server_root_url,
        session_sharing_server_url=config.session_sharing_server_url,
        idle_on_complete=config.idle_on_complete,
        operator_env=config.environment,
        default_image=kubernetes.default_image if kubernetes else None,
        sidecar_image=kubernetes.sidecar_image if kubernetes else None,
        coding_cli_sidecars=kubernetes.coding_cli_sidecars if kubernetes else {},
    )


def _identity(config: WorkerConfig) -> Identity:
    return Identity(
        worker_id=config.worker_id,
        version=__version__,
        backend=config.backend_name,
        max_concurrent_tasks=config.max_concurrent_tasks,
    )


def _worker_settings(config: WorkerConfig) -> WorkerSettings:
    return WorkerSettings(
        worker_id=config.worker_id,
        max_concurrent_tasks=config.max_concurrent_tasks,
        tasks=task_settings(config),
    )


def _link_settings(
    config: WorkerConfig, options: WorkerOptions, environ: Mapping[str, str]
) -> ConnectionSettings:
    return ConnectionSettings(
        url=config.web_socket_url,
        worker_id=config.worker_id,
        api_key=config.api_key,
        proxy=proxy_for(config.web_socket_url, environ),
        exit_on_auth_failure=options.exit_on_auth_failure,
    )
