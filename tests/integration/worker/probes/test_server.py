"""The probes' server on real sockets, with clients that behave and clients that do not."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from oz_agent_worker.worker.probes.server import ProbeServer, Response
from tests.timeouts import HANG_TIMEOUT


def _broken() -> Response:
    raise RuntimeError("broken")


@pytest.fixture
async def server() -> AsyncIterator[ProbeServer]:
    routes = {"/ok": lambda: Response(503, "application/json", b'{"a": 1}\n'), "/broken": _broken}
    server = ProbeServer(["127.0.0.1"], 0, routes)
    await server.start()
    yield server
    await server.close()


async def raw(server: ProbeServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    async with asyncio.timeout(HANG_TIMEOUT):
        answer = await reader.read()
    writer.close()
    return answer


async def test_an_answer_as_a_client_library_reads_it(server: ProbeServer) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{server.port}/ok?x=1") as got:
        assert got.status == 503
        assert got.headers["Connection"] == "close"
        assert await got.json() == {"a": 1}


async def test_head_has_no_body(server: ProbeServer) -> None:
    answer = await raw(server, b"HEAD /ok HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Length: 9\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /nowhere HTTP/1.1", b"404 Not Found"),
        (b"POST /ok HTTP/1.1", b"405 Method Not Allowed"),
        (b"GET /broken HTTP/1.1", b"500 Internal Server Error"),
        (b"nonsense", b"404 Not Found"),
        (b"\xff\xfe \xff", b"404 Not Found"),
    ],
)
async def test_requests_that_cannot_be_met(server: ProbeServer, request_line: bytes, status: bytes) -> None:
    answer = await raw(server, request_line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Traceback" not in answer


async def test_k15_a_route_that_fails_at_each_probe_is_logged_with_one_traceback(
    server: ProbeServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        await raw(server, b"GET /broken HTTP/1.1\r\n\r\n")
    assert len(caplog.records) == 2
    assert caplog.text.count("Traceback") == 1
    assert caplog.messages[0].startswith("GET /broken failed: ")


async def test_an_endless_head_is_cut_off(server: ProbeServer) -> None:
    try:
        answer = await raw(server, b"GET /ok HTTP/1.1\r\nX: " + b"x" * 200_000)
    except ConnectionError:
        answer = b""
    assert answer == b""


async def test_silent_clients_do_not_block_others(server: ProbeServer) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
    body = (await raw(server, b"GET /ok HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")[2]
    assert json.loads(body) == {"a": 1}
    async with asyncio.timeout(HANG_TIMEOUT):
        await server.close()
    for _, writer in silent:
        writer.close()
