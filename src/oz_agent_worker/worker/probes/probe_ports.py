"""Which ports a worker listens on, and what each serves: health, readiness and metrics."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from oz_agent_worker.errors import UsageError
from oz_agent_worker.worker.telemetry.telemetry import Telemetry

from .health import Health
from .server import Endpoint, ProbeServer

__all__ = ["ListenPlan", "ProbePorts", "listen_plans"]

logger: Final = logging.getLogger(__name__)

_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  recognised here, not bound


@dataclass(frozen=True, slots=True)
class ListenPlan:
    """A server to start: its addresses, its port, and what it serves."""

    hosts: tuple[str, ...]
    port: int
    probes: bool
    metrics: bool


def listen_plans(probes: Endpoint | None, prometheus: Endpoint | None) -> Iterator[ListenPlan]:
    """Yield the servers that are needed; one where both have the same port.

    With the Prometheus exporter, the port of the probes serves metrics too.
    """
    if probes is not None and prometheus is not None and probes.port == prometheus.port != 0:
        yield ListenPlan(_joined((probes.host, prometheus.host)), probes.port, probes=True, metrics=True)
        return
    if probes is not None:
        yield ListenPlan((probes.host,), probes.port, probes=True, metrics=prometheus is not None)
    if prometheus is not None:
        yield ListenPlan((prometheus.host,), prometheus.port, probes=False, metrics=True)


def _joined(hosts: Sequence[str]) -> tuple[str, ...]:
    """Drop hosts that another one includes."""
    distinct = tuple(dict.fromkeys(hosts))
    return tuple(host for host in distinct if host in _WILDCARDS) or distinct


class ProbePorts:
    """An async context manager that serves health and metrics."""

    def __init__(self, probes: Endpoint | None, health: Health, telemetry: Telemetry) -> None:
        self._plans = list(listen_plans(probes, telemetry.prometheus))
        self._health = health
        self._telemetry = telemetry
        self._servers = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the servers.

        Raises:
            UsageError: the server cannot listen on the address of the probes. For metrics alone,
                that is only logged.
        """
        try:
            for plan in self._plans:
                await self._start(plan)
        except BaseException:
            await self._servers.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._servers.aclose()

    async def _start(self, plan: ListenPlan) -> None:
        routes = dict(self._health.routes()) if plan.probes else {}
        if plan.metrics:
            routes["/metrics"] = self._telemetry.scrape
        server = ProbeServer(plan.hosts, plan.port, routes)
        try:
            await server.start()
        except (OSError, OverflowError) as error:
            where = " and ".join(str(Endpoint(host, plan.port)) for host in plan.hosts)
            if plan.probes:
                raise UsageError(f"--health-port: cannot listen on {where}: {error}") from error
            logger.warning("Metrics are not served: cannot listen on %s: %s", where, error)
            return
        self._servers.push_async_callback(server.close)
        for host in plan.hosts:
            logger.info("%s on http://%s", ", ".join(routes), Endpoint(host, server.port))
