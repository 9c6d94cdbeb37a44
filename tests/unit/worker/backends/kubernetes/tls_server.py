"""A TLS server on loopback that answers with the name in the caller's client certificate."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from tests.cluster.certificates import Authority, KeyPair

__all__ = ["tls_server", "who_am_i", "write_pair"]

HOST = "127.0.0.1"


def write_pair(pair: KeyPair, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``name``.crt and ``name``.key and return their paths."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return certificate, key


@contextlib.asynccontextmanager
async def tls_server(authority: Authority, folder: Path, name: str = HOST) -> AsyncIterator[int]:
    """Serve on the port that is given, certified for ``name``: the caller's common name, a line a connection.

    Callers without a certificate are answered ``nobody``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pair(authority.server(name), folder, "server"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.certificate.decode())

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peercert") or {}
        names = [value for entry in peer.get("subject", ()) for key, value in entry if key == "commonName"]
        writer.write(f"{(names or ['nobody'])[0]}\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def who_am_i(port: int, context: ssl.SSLContext, server_hostname: str = HOST) -> str:
    """Call ``tls_server`` and return the name that it saw."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=server_hostname)
    line = await reader.readline()
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return line.decode().strip()
