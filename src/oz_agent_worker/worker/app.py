"""The composition root: puts a worker together from its configuration, and runs it.

control plane ⇄ connection ⇄ worker ⇄ backend ⇄ where the tasks run
                outbox, logs: what the control plane has not received yet
all of them → events → telemetry: metrics, traces, log fields; probe ports: health, scrapes
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
from .peer import ControlPlanePeer
from .probes.health import Health
from .probes.probe_ports import ProbePorts
from .probes.server import Endpoint
from .task_spec import TaskSettings
from .telemetry.resource import WorkerResource
from .telemetry.telemetry import Telemetry
from .worker import Worker, WorkerSettings

__all__ = ["WorkerOptions", "build_backend", "run_worker", "task_settings"]

logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How the worker's process behaves; times in seconds.

    ``default_agent`` is the agent's program for the direct backend without ``oz_path``, in place of
    `oz` on PATH. ``probes`` is where health is served. ``listeners`` get
    every event.
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
        PreflightError: the backend cannot run tasks, at all or those of this control plane.
        AuthRefusedError: the key was refused and the options say to exit then.
    """
    telemetry = Telemetry(options.listeners)
    peer = ControlPlanePeer(config.web_socket_url, config.server_root_url)
    backend = build_backend(config, options, environ, telemetry.notify, peer)
    for warning in config.warnings:
        logger.warning("%s", warning)
    logger.info(
        "oz-agent-worker %s, worker ID %s, backend %s", __version__, config.worker_id, config.backend_name
    )
    outbox, logs = Outbox(clock=time.monotonic), LogBuffers()
    settings = WorkerSettings(
        worker_id=config.worker_id,
        max_concurrent_tasks=config.max_concurrent_tasks,
        tasks=task_settings(config),
    )
    worker = Worker(backend, settings, outbox, logs, telemetry.notify)
    connection = worker.connection = Connection(
        _connection_settings(config, options, environ),
        worker,
        outbox,
        logs,
        notify=telemetry.notify,
        check_peer=peer.check,
    )
    health = Health(connected=lambda: connection.connected, watches=backend.watches)
    resource = WorkerResource(
        worker_id=config.worker_id,
        version=__version__,
        backend=config.backend_name,
        max_concurrent_tasks=config.max_concurrent_tasks,
    )
    telemetry.begin(environ, resource)
    telemetry.sample(outbox, backend.watches)
    try:
        async with ProbePorts(options.probes, health, telemetry):
            starting = asyncio.create_task(backend.start(worker.adopt), name="backend-start")
            if await ends_before(starting, stop):
                starting.result()
                health.preflight_passed = True
                await _serve(worker, connection, health, stop, options.shutdown_grace)
            else:
                await cancel_and_wait(starting)
    finally:
        await backend.close()
        await telemetry.close()
        logger.info("Stopped")


async def _serve(
    worker: Worker, connection: Connection, health: Health, stop: asyncio.Event, grace: float
) -> None:
    """Run tasks until ``stop`` or a refused key; then drain within ``grace`` seconds."""
    connecting = asyncio.create_task(connection.run(), name="connection")
    try:
        await ends_before(connecting, stop)
        health.stopping = True
        connection.reconnect_now()
        await worker.drain(grace)
    finally:
        connection.stop()
        await connecting


def build_backend(
    config: WorkerConfig,
    options: WorkerOptions,
    environ: Mapping[str, str],
    notify: Notify = ignore_event,
    peer: ControlPlanePeer | None = None,
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
        peer=peer,
        notify=notify,
    )
    return entry.create(config.backend, context)


def task_settings(config: WorkerConfig) -> TaskSettings:
    """Return what the configuration adds to every task."""
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


def _connection_settings(
    config: WorkerConfig, options: WorkerOptions, environ: Mapping[str, str]
) -> ConnectionSettings:
    return ConnectionSettings(
        url=config.web_socket_url,
        worker_id=config.worker_id,
        api_key=config.api_key,
        proxy=proxy_for(config.web_socket_url, environ),
        exit_on_auth_failure=options.exit_on_auth_failure,
    )
