"""Peers that refuse, do not answer, or send what makes no sense."""

import asyncio
import json
import logging
import time

import pytest

from oz_agent_worker.errors import AuthRefusedError, ExitCode
from oz_agent_worker.protocol.frames import MAX_FRAME_BYTES

from .connected_worker import KEY, ConnectedWorker, answer, connected_worker, settings
from .scripted_plane import PeerConnection, Plane, assignment, plane_on, until

# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_logged_in_one_line_and_retried_at_the_slowest_rate(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    plane = Plane([status, status, answer])
    began = time.monotonic()
    async with connected_worker(plane, retry_cap=0.15) as client:
        await until(lambda: client.connection.connected)
    assert time.monotonic() - began >= 0.3
    refusal = (
        f"Connection to Oz refused: the control plane at {plane.url} refused the API key (HTTP {status}): "
        "check WARP_API_KEY, and that the key belongs to this team; next try in 0.1 s"
    )
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [refusal]
    assert KEY not in caplog.text


async def test_a_refused_key_ends_the_link_where_the_settings_say_so() -> None:
    plane = Plane([401])
    async with plane_on(plane):
        client = ConnectedWorker(settings(plane, exit_on_auth_failure=True))
        with pytest.raises(AuthRefusedError, match="refused the API key") as caught:
            await client.connection.run()
    assert caught.value.exit_code is ExitCode.AUTH
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_any_other_status_is_tried_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    plane = Plane([status, status, answer])
    async with connected_worker(plane, exit_on_auth_failure=True) as client:
        await until(lambda: client.connection.connected)
    lost = [message for message in caplog.messages if message.startswith("Connection to Oz lost")]
    assert len(lost) == 1
    assert f"{plane.url} answered HTTP {status}; next try in 0.0 s" in lost[0]


async def test_a_peer_that_is_not_there_yet(caplog: pytest.LogCaptureFixture) -> None:
    plane = Plane([answer])
    async with plane_on(plane):
        pass  # the port is known, and nobody listens on it
    client = ConnectedWorker(settings(plane))
    running = asyncio.create_task(client.connection.run())
    await until(lambda: any("cannot be reached" in message for message in caplog.messages))
    async with plane_on(plane):
        await until(lambda: client.connection.connected)
        client.connection.stop()
        await running


async def test_a_peer_that_does_not_answer_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        plane = Plane([], port=server.sockets[0].getsockname()[1])
        client = ConnectedWorker(settings(plane, connect_timeout=0.05))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: any("no answer from" in message for message in caplog.messages))
        client.connection.stop()
        await running


# --------------------------------------------------------------------------- hostile frames

CANARY = "canary-payload-09"


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        CANARY,
        "[]",
        '{"type":"novelty","data":{"a":"' + CANARY + '"}}',
        '{"type":"task_assignment","data":"' + CANARY + '"}',
        '{"type":"task_assignment","data":{"env_vars":{"A":"' + CANARY + '"}}}',
        '{"type":"task_cancellation","data":null}',
        '{"type":"ack","data":{"ack_id":"' + CANARY + '"}}',
        "[" * 100_000,
        b"",
        b"\xff\xfe" + CANARY.encode(),
        b'{"type":"task_cancellation","data":{"task_id":"nobody"}}',
    ],
    ids=lambda value: str(value)[:40],
)
async def test_frames_that_make_no_sense_change_nothing(
    hostile: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def script(connection: PeerConnection) -> None:
        if isinstance(hostile, str):
            await connection.socket.send_str(hostile)
        else:
            await connection.socket.send_bytes(hostile)
        await connection.send("task_assignment", **assignment())
        await connection.answer()

    plane = Plane([script])
    async with connected_worker(plane) as client:
        await until(lambda: client.backend.executions)
        client.end()
        await until(lambda: client.idle)
    assert len(plane.connections) == 1
    assert CANARY not in caplog.text


async def test_a_binary_frame_counts_as_its_text() -> None:
    async def script(connection: PeerConnection) -> None:
        frame = {"type": "task_assignment", "data": assignment()}
        await connection.socket.send_bytes(json.dumps(frame).encode())
        await connection.answer()

    async with connected_worker(Plane([script])) as client:
        await until(lambda: client.backend.executions)


async def test_a_prompt_of_a_mebibyte_is_accepted() -> None:
    async def script(connection: PeerConnection) -> None:
        task = {"id": "run-1", "task_definition": {"prompt": "x" * 1024 * 1024}}
        await connection.send("task_assignment", **assignment(task=task))
        await connection.answer()

    plane = Plane([script])
    async with connected_worker(plane) as client:
        await until(lambda: client.backend.executions)
    assert len(plane.connections) == 1


async def test_a_frame_beyond_16_mib_ends_the_connection_and_not_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def oversized(connection: PeerConnection) -> None:
        await connection.socket.send_str(CANARY + "x" * MAX_FRAME_BYTES)
        await connection.answer()

    async def second(connection: PeerConnection) -> None:
        await connection.send("task_assignment", **assignment())
        await connection.answer()

    plane = Plane([oversized, second])
    async with connected_worker(plane) as client:
        await until(lambda: client.backend.executions)
        client.end()
        await until(lambda: client.idle)
    assert len(plane.connections) == 2
    assert any("the peer broke the protocol" in message for message in caplog.messages)
    assert CANARY not in caplog.text


async def test_bytes_that_are_no_websocket_end_the_connection_and_not_the_worker() -> None:
    async def garbage(connection: PeerConnection) -> None:
        assert connection.request.transport is not None
        connection.request.transport.write(b"\xff" * 64)
        await connection.answer()

    plane = Plane([garbage, answer])
    async with connected_worker(plane) as client:
        await until(lambda: len(plane.connections) == 2 and client.connection.connected)
