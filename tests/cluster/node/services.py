"""What makes Services reachable for Pods: kube-proxy's part, in user space, and the cluster's DNS.

Every address of the Services' range is the machine's own for what comes over the Pods'
bridge, and a listener on each Service's address and port passes connections on to a
ready endpoint. No packet filter of the machine is touched, and two nodes on one machine
do not meet: each listens on its own bridge alone. TCP only, and no session affinity.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from types import TracebackType
from typing import Any, Final, Self

from tests.cluster.components import SERVICES
from tests.cluster.errors import ApiError, ClusterError
from tests.cluster.node_tier import NodeTier
from tests.timeouts import HANG_TIMEOUT

from . import network
from .dns import DNS_PORT, answer_to

__all__ = ["CLUSTER_DOMAIN", "ServiceNetwork", "endpoint_of", "wanted_ports"]

CLUSTER_DOMAIN: Final = "cluster.local"

REFRESH: Final = 0.5
"""Seconds between two looks at the Services."""

PIECE: Final = 1 << 16

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """A port of a Service."""

    namespace: str
    service: str
    port: str | None

    @property
    def is_api_server(self) -> bool:
        """Whether it is the API server's own, which has no endpoints: it listens on loopback."""
        return (self.namespace, self.service) == ("default", "kubernetes")


def wanted_ports(services: Any) -> dict[Address, Target]:
    """Return each address and TCP port that a ServiceList gives, and what it stands for."""
    return {
        (service["spec"]["clusterIP"], port["port"]): Target(
            service["metadata"]["namespace"], service["metadata"]["name"], port.get("name")
        )
        for service in services["items"]
        if service["spec"].get("clusterIP", "None") != "None"
        for port in service["spec"].get("ports", ())
        if port.get("protocol", "TCP") == "TCP"
    }


def endpoint_of(slices: Any, port: str | None) -> Address | None:
    """Return the first ready endpoint of an EndpointSliceList for a named port."""
    for part in slices["items"]:
        numbers = [p["port"] for p in part.get("ports") or () if (p.get("name") or None) == (port or None)]
        for endpoint in part.get("endpoints") or ():
            if numbers and endpoint.get("conditions", {}).get("ready"):
                return endpoint["addresses"][0], numbers[0]
    return None


class ServiceNetwork:
    """A context manager; it serves from a thread of its own."""

    def __init__(self, tier: NodeTier) -> None:
        self._client = tier.api.client()
        self._api_server = ("127.0.0.1", tier.api.layout.apiserver_port)
        self._layout = tier.layout
        self._addresses: dict[str, str] = {}
        self._servers: dict[Address, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._ends: Callable[[], None] = lambda: None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="services")

    def __enter__(self) -> Self:
        """Serve.

        Raises:
            ClusterError: it cannot be served.
        """
        network.add_local_range(self._layout.bridge, SERVICES)
        self._thread.start()
        if not self._ready.wait(HANG_TIMEOUT) or self._failure is not None:
            self.close()
            raise ClusterError("the API server does not name its Services")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all listeners and connections. The addresses go with the bridge.

        Raises:
            ClusterError: a Service could not be served.
        """
        self._ends()
        self._thread.join()
        if self._failure is not None:
            raise ClusterError("the Services cannot be served") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        self._ends = lambda: _from_outside(loop, end)
        names = self._bound(socket.SOCK_DGRAM, (self._layout.gateway, DNS_PORT))
        transport, _ = await loop.create_datagram_endpoint(lambda: _Names(self._addresses.get), sock=names)
        try:
            while not end.is_set():
                if (services := await self._services()) is not None:
                    await self._serve_all(services)
                    self._ready.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(end.wait(), REFRESH)
        finally:
            transport.close()
            for server in self._servers.values():
                server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _bound(self, kind: socket.SocketKind, address: Address) -> socket.socket:
        """A socket for what comes over the bridge."""
        listener = socket.socket(socket.AF_INET, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._layout.bridge.encode())
            listener.setblocking(False)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener

    async def _services(self) -> Any:
        """The ServiceList; None while the API server is away: some tests restart it."""
        with suppress(OSError, HTTPException, ApiError):
            return await asyncio.to_thread(self._client.get, "/api/v1/services")
        return None

    async def _serve_all(self, services: Any) -> None:
        wanted = wanted_ports(services)
        for address in self._servers.keys() - wanted.keys():
            self._servers.pop(address).close()
        for address in wanted.keys() - self._servers.keys():
            listener = self._bound(socket.SOCK_STREAM, address)
            self._servers[address] = await asyncio.start_server(self._accept(wanted[address]), sock=listener)
        self._addresses.clear()
        for (ip, _), target in wanted.items():
            self._addresses[f"{target.service}.{target.namespace}.svc.{CLUSTER_DOMAIN}"] = ip

    def _accept(self, target: Target) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.create_task(self._forward(target, reader, writer))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

        return accept

    async def _forward(
        self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            with suppress(OSError, HTTPException, ApiError):
                await self._join(await self._endpoint(target), reader, writer)
        finally:
            writer.transport.abort()  # after both ends have closed, it changes nothing

    async def _join(
        self, address: Address | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if address is None:
            return
        answers, requests = await asyncio.open_connection(*address)
        try:
            both: list[Awaitable[None]] = [_pump(reader, requests), _pump(answers, writer)]
            await asyncio.gather(*both)
        finally:
            requests.transport.abort()

    async def _endpoint(self, target: Target) -> Address | None:
        if target.is_api_server:
            return self._api_server
        path = f"/apis/discovery.k8s.io/v1/namespaces/{target.namespace}/endpointslices"
        selector = f"?labelSelector=kubernetes.io%2Fservice-name%3D{target.service}"
        return endpoint_of(await asyncio.to_thread(self._client.get, path + selector), target.port)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on what comes, and then its end."""
    while piece := await source.read(PIECE):
        sink.write(piece)
        await sink.drain()
    sink.write_eof()


def _from_outside(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(event.set)


class _Names(asyncio.DatagramProtocol):
    """Answers queries over UDP."""

    def __init__(self, address_of: Callable[[str], str | None]) -> None:
        self._address_of = address_of
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        answer = answer_to(data, self._address_of)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
