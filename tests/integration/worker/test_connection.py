"""The link against a real WebSocket server on the loopback interface."""

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker import __version__
from oz_agent_worker.common.proxy import parse_proxy
from oz_agent_worker.protocol.failure_reasons import RejectionReason
from oz_agent_worker.protocol.report import ExecutionKey
from tests.integration.connect_proxy import ConnectProxy
from tests.timeouts import HANG_TIMEOUT

from .connected_worker import KEY, ConnectedWorker, answer, connected_worker, settings
from .scripted_plane import EXTENDED, BrokenError, PeerConnection, Plane, assignment, plane_on, until

# ------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize("worker_id", ["w", "team a/ä&x=1#y"])
async def test_the_handshake(worker_id: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plane = Plane([answer])
    async with connected_worker(plane, worker_id=worker_id) as client:
        await until(lambda: client.connection.connected)
    request = plane.requests[0]
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert dict(request.query) == {"worker_id": worker_id}
    assert request.headers["User-Agent"] == f"oz-agent-worker/{__version__}"
    assert caplog.messages[:2] == [f"Connected to Oz at {plane.url}", "Listening for tasks"]


async def test_a_query_of_the_url_is_kept() -> None:
    plane = Plane([answer])
    async with plane_on(plane):
        client = ConnectedWorker(settings(plane, url=f"{plane.url}?region=eu"))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: client.connection.connected)
        client.connection.stop()
        await running
    assert dict(plane.requests[0].query) == {"region": "eu", "worker_id": "w"}


async def test_a_login_for_the_host_in_netrc_does_not_take_the_key_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    plane = Plane([answer])
    async with connected_worker(plane) as client:
        await until(lambda: client.connection.connected)
    assert plane.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_a_proxy_is_asked_with_its_login_for_a_name_that_it_alone_knows() -> None:
    plane = Plane([answer])
    async with plane_on(plane), ConnectProxy(plane.port, login="Basic bWU6aHVudGVyMg==") as proxy:
        through = parse_proxy(proxy.url_with("me:hunter2"), "HTTP_PROXY")
        url = plane.url.replace("127.0.0.1", "plane.invalid")
        client = ConnectedWorker(settings(plane, url=url, proxy=through))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: client.connection.connected)
        client.connection.stop()
        await running
    (asked,) = proxy.asked
    assert asked.startswith(f"GET http://plane.invalid:{plane.port}/worker/ws?worker_id=w ")


async def test_wss_asks_a_proxy_for_a_tunnel_and_its_refusal_is_logged_without_the_login(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane = Plane([answer])
    async with ConnectProxy(login="Basic other") as proxy:
        through = parse_proxy(proxy.url_with("me:hunter2"), "HTTPS_PROXY")
        client = ConnectedWorker(settings(plane, url="wss://plane.invalid/worker/ws", proxy=through))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: len(proxy.asked) >= 2)
        client.connection.stop()
        await running
    assert proxy.asked[0] == "CONNECT plane.invalid:443 HTTP/1.1"
    assert proxy.logins[0] == "Basic bWU6aHVudGVyMg=="
    expected = f"the proxy {proxy.url} (HTTPS_PROXY) answers HTTP 407 Proxy Authentication Required"
    assert f"wss://plane.invalid/worker/ws cannot be reached: {expected}" in caplog.messages[0]
    assert all(secret not in caplog.text for secret in ("hunter2", "bWU6"))


# ----------------------------------------------------------------------------- the frames


async def _one_task(
    connection: PeerConnection, client: ConnectedWorker, ending: list[dict[str, Any]]
) -> None:
    """Hand out a task, end it once it is claimed, and keep on answering."""
    if connection.number == 0:
        await connection.send("task_assignment", **assignment())
    while True:
        frame = await connection.receive_frame()
        if frame["type"] == "task_claimed":
            client.end()
        if frame["type"] == "task_completed":
            ending.append(frame)
        if ack_id := frame["data"].get("ack_id"):
            await connection.send("ack", ack_id=ack_id)


async def _life_of_a_task(capabilities: str | None) -> list[str]:
    """Every frame that the worker sends for one task, as its text."""
    clients: list[ConnectedWorker] = []

    async def script(connection: PeerConnection) -> None:
        await _one_task(connection, clients[0], [])

    plane = Plane([script], capabilities)
    async with connected_worker(plane) as client:
        clients.append(client)
        await until(lambda: client.backend.executions)
        await until(lambda: client.idle)
    return plane.frames


async def test_a_public_peer_gets_the_public_frames_to_the_byte() -> None:
    assert await _life_of_a_task(None) == [
        '{"type":"task_claimed","data":{"task_id":"run-1","worker_id":"w"}}',
        '{"type":"task_completed","data":{"task_id":"run-1","message":"Task completed successfully"}}',
    ]


async def test_a_peer_that_asked_gets_more() -> None:
    frames = [json.loads(frame) for frame in await _life_of_a_task(EXTENDED)]
    assert frames == [
        {
            "type": "worker_hello",
            "data": {
                "worker_id": "w",
                "version": __version__,
                "backend": "scripted",
                "max_concurrent_tasks": 1,
            },
        },
        {
            "type": "task_claimed",
            "data": {"task_id": "run-1", "worker_id": "w", "execution_id": "run-1-e1"},
        },
        {
            "type": "task_log",
            "data": {
                "task_id": "run-1",
                "execution_id": "run-1-e1",
                "offset": 0,
                "text": "the output\n",
            },
        },
        {
            "type": "task_completed",
            "data": {
                "task_id": "run-1",
                "message": "Task completed successfully",
                "execution_id": "run-1-e1",
                "ack_id": "run-1/run-1-e1#2",
            },
        },
    ]


async def test_capacity_and_cancellation_over_the_wire() -> None:
    async def script(connection: PeerConnection) -> None:
        await connection.send("task_assignment", **assignment("run-1"))
        await connection.receive_frame()
        await connection.send("task_assignment", **assignment("run-2"))
        await connection.receive_frame()
        await connection.send("task_cancellation", task_id="run-1")
        await connection.answer()

    plane = Plane([script])
    async with connected_worker(plane) as client:
        await until(lambda: client.backend.executions.get("run-1"))
        await until(lambda: client.backend.executions["run-1"].stops == ["cancellation requested"])
    assert plane.frames == [
        '{"type":"task_claimed","data":{"task_id":"run-1","worker_id":"w"}}',
        '{"type":"task_rejected","data":{"task_id":"run-2","reason":"at_capacity"}}',
    ]


# ------------------------------------------------------------------------------------ time


async def test_pings_keep_a_quiet_connection_alive() -> None:
    plane = Plane([answer])
    async with connected_worker(plane, ping_interval=0.02, dead_after=0.5):
        await until(lambda: plane.connections and len(plane.connections[0].log) >= 40)
    assert len(plane.connections) == 1
    assert plane.connections[0].log[:3] == [b"1", b"2", b"3"]


async def test_a_ping_follows_the_pong_for_which_it_waited() -> None:
    clients: list[ConnectedWorker] = []

    async def script(connection: PeerConnection) -> None:
        await connection.send("task_assignment", **assignment())
        await connection.receive()
        first = await connection.receive()
        assert first == b"1"
        clients[0].end()
        await connection.receive()
        await asyncio.sleep(0.05)  # the writer has nothing left to do
        await connection.socket.pong(b"1")
        await connection.answer()

    plane = Plane([script])
    async with connected_worker(plane) as client:
        clients.append(client)
        await until(lambda: client.backend.executions)
        await until(lambda: client.idle)
    log = plane.connections[0].log
    assert [json.loads(item)["type"] if isinstance(item, str) else item for item in log] == [
        "task_claimed",
        b"1",
        "task_completed",
        b"2",
    ]


async def test_a_report_whose_ack_does_not_come_is_sent_again_on_the_same_connection() -> None:
    clients: list[ConnectedWorker] = []
    reports: list[str] = []

    async def script(connection: PeerConnection) -> None:
        await connection.send("task_assignment", **assignment())
        while True:
            frame = await connection.receive_frame()
            if frame["type"] == "task_claimed":
                clients[0].end()
            if ack_id := frame["data"].get("ack_id"):
                reports.append(ack_id)
                if len(reports) > 1:
                    await connection.send("ack", ack_id=ack_id)

    plane = Plane([script], EXTENDED)
    async with connected_worker(plane, ack_timeout=0.05) as client:
        clients.append(client)
        await until(lambda: client.backend.executions)
        await until(lambda: client.idle)
    assert len(plane.connections) == 1
    assert reports[0] == reports[1]


async def test_a_silent_peer_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(connection: PeerConnection) -> None:
        while True:
            await connection.receive()

    plane = Plane([silent, answer])
    async with connected_worker(plane, ping_interval=0.05, dead_after=0.2):
        await until(lambda: len(plane.connections) >= 2)
    assert any(message.startswith("Connection to Oz lost: silent for 0 s") for message in caplog.messages)


async def test_the_peer_s_own_pings_are_answered() -> None:
    pongs: list[bytes] = []

    async def script(connection: PeerConnection) -> None:
        await connection.socket.ping(b"are you there")
        message = await connection.socket.receive()
        pongs.append(bytes(message.data))

    plane = Plane([script, answer])
    async with connected_worker(plane):
        await until(lambda: pongs)
    assert pongs == [b"are you there"]


async def test_a_peer_that_does_not_read_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def deaf(connection: PeerConnection) -> None:
        await asyncio.sleep(3600)

    plane = Plane([deaf, answer], EXTENDED)
    async with connected_worker(plane, write_timeout=0.2) as client:
        await until(lambda: client.connection.connected)
        for number in range(24):
            for _ in range(16):
                client.logs.write(ExecutionKey(f"t{number}", f"t{number}"), b"x" * 65536)
        client.connection.wake()
        await until(lambda: len(plane.connections) >= 2)
    assert any("a write took over 0 s" in message for message in caplog.messages)


# ------------------------------------------------------------------------------------ stop


async def test_stop_closes_at_once() -> None:
    closed: list[int | None] = []

    async def script(connection: PeerConnection) -> None:
        with contextlib.suppress(BrokenError):
            await connection.answer()
        closed.append(connection.socket.close_code)

    plane = Plane([script])
    async with plane_on(plane):
        client = ConnectedWorker(settings(plane))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: client.connection.connected)
        client.connection.stop()
        async with asyncio.timeout(1.0):
            await running
        await until(lambda: closed)
    assert closed == [1000]
    assert not client.connection.connected


async def test_stop_does_not_wait_for_a_peer_that_does_not_close() -> None:
    async def deaf(connection: PeerConnection) -> None:
        await asyncio.sleep(3600)

    plane = Plane([deaf])
    async with plane_on(plane):
        client = ConnectedWorker(settings(plane))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: client.connection.connected)
        client.connection.stop()
        async with asyncio.timeout(HANG_TIMEOUT):
            await running


@pytest.mark.parametrize("script", [500, 401])
async def test_stop_ends_the_wait_for_the_next_try(script: int) -> None:
    plane = Plane([script])
    async with plane_on(plane):
        client = ConnectedWorker(settings(plane, retry_first=3600.0, retry_cap=3600.0))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: plane.requests)
        client.connection.stop()
        async with asyncio.timeout(1.0):
            await running


async def test_a_rejection_without_a_connection_is_dropped() -> None:
    client = ConnectedWorker(settings(Plane([], port=1)))
    client.connection.reject(ExecutionKey("a", "a"), RejectionReason.AT_CAPACITY)
    assert not client.connection.connected
