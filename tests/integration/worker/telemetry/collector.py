"""An OTLP collector: OTLP/HTTP with protobuf, as the specification has it (OTLP 1.x, "OTLP/HTTP")."""

import contextlib
import gzip
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.cluster.web_server import end_server

__all__ = ["Collector", "collector", "values"]


@dataclass
class Collector:
    """Keeps what it was sent, decoded."""

    port: int = 0
    status: int = 200
    metric_requests: list[ExportMetricsServiceRequest] = field(default_factory=list)
    trace_requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def metrics(self, request: web.Request) -> web.Response:
        if self.status == 200:
            self.metric_requests.append(ExportMetricsServiceRequest.FromString(await self._body(request)))
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def traces(self, request: web.Request) -> web.Response:
        if self.status == 200:
            self.trace_requests.append(ExportTraceServiceRequest.FromString(await self._body(request)))
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def _body(self, request: web.Request) -> bytes:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body

    def latest(self) -> dict[str, Metric]:
        """The metrics of the last request."""
        (resource,) = self.metric_requests[-1].resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}

    def spans(self) -> Iterator[Span]:
        for request in self.trace_requests:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans

    def resource(self) -> dict[str, str]:
        """The attributes of what the last metrics are of."""
        (resource,) = self.metric_requests[-1].resource_metrics
        return values(resource.resource.attributes)


def values(attributes: Any) -> dict[str, str]:
    """String attributes as a dictionary."""
    return {a.key: a.value.string_value for a in attributes if a.value.HasField("string_value")}


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Serve a collector on a free port of the loopback interface."""
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/metrics", collector.metrics)
    application.router.add_post("/v1/traces", collector.traces)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.port = runner.addresses[0][1]
    try:
        yield collector
    finally:
        await end_server(runner)
