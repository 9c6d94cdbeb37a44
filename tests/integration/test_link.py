"""The link against a real WebSocket server on the loopback interface."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker import __version__
from oz_agent_worker.core.logstream import LogBook
from oz_agent_worker.core.outbox import Outbox
from oz_agent_worker.core.outcome import succeeded
from oz_agent_worker.core.report import ExecutionKey
from oz_agent_worker.core.secret import Secret
from oz_agent_worker.core.taskspec import TaskSettings
from oz_agent_worker.core.wire import MAX_FRAME_BYTES
from oz_agent_worker.errors import AuthRefusedError, ExitCode
from oz_agent_worker.link import Link, LinkSettings
from oz_agent_worker.worker import Worker, WorkerSettings
from tests.unit.scripted import ScriptedBackend

from .scripted_plane import EXTENDED, BrokenError, Connection, Plane, assignment, plane_on, until

KEY = "canary-key-51aa"


@dataclass
class Station:
    """A worker on a scripted backend, linked to a plane."""

    settings: LinkSettings
    backend: ScriptedBackend = field(default_factory=ScriptedBackend)
    outbox: Outbox = field(default_factory=Outbox)
    logs: LogBook = field(default_factory=LogBook)

    def __post_init__(self) -> None:
        tasks = TaskSettings(server_root_url="https://oz.test")
        worker_settings = WorkerSettings(worker_id="w", max_concurrent_tasks=1, tasks=tasks)
        self.worker = Worker(self.backend, worker_settings, self.outbox, self.logs)
        self.link = Link(self.settings, self.worker, self.outbox, self.logs)
        self.worker.uplink = self.link

    @property
    def idle(self) -> bool:
        return len(self.outbox) == 0 and self.worker.hello().executions == []

    def end(self, task_id: str = "run-1") -> None:
        execution = self.backend.executions[task_id]
        if not execution.ended.done():
            execution.output.write(b"the output\n")
            execution.ended.set_result(succeeded())


def _settings(plane: Plane, **changes: Any) -> LinkSettings:
    settings = LinkSettings(
        url=plane.url,
        worker_id="w",
        api_key=Secret(KEY),
        connect_timeout=5.0,
        retry_first=0.001,
        retry_cap=0.02,
    )
    return replace(settings, **changes)


@contextlib.asynccontextmanager
async def _linked(plane: Plane, **changes: Any) -> AsyncIterator[Station]:
    """A station whose link runs as long as the block."""
    async with plane_on(plane):
        station = Station(_settings(plane, **changes))
        running = asyncio.create_task(station.link.run())
        try:
            yield station
        finally:
            station.link.stop()
            async with asyncio.timeout(5.0):
                await running
            await station.worker.drain(0.0)


async def _answer(connection: Connection) -> None:
    await connection.answer()


# ------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize("worker_id", ["w", "team a/ä&x=1#y"])
async def test_the_handshake(worker_id: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plane = Plane([_answer])
    async with _linked(plane, worker_id=worker_id) as station:
        await until(lambda: station.link.connected)
    request = plane.requests[0]
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert dict(request.query) == {"worker_id": worker_id}
    assert request.headers["User-Agent"] == f"oz-agent-worker/{__version__}"
    assert caplog.messages[:2] == [f"Connected to Oz at {plane.url}", "Listening for tasks"]


async def test_a_query_of_the_url_is_kept() -> None:
    plane = Plane([_answer])
    async with plane_on(plane):
        station = Station(_settings(plane, url=f"{plane.url}?region=eu"))
        running = asyncio.create_task(station.link.run())
        await until(lambda: station.link.connected)
        station.link.stop()
        await running
    assert dict(plane.requests[0].query) == {"region": "eu", "worker_id": "w"}


async def test_a_login_for_the_host_in_netrc_does_not_take_the_key_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    plane = Plane([_answer])
    async with _linked(plane) as station:
        await until(lambda: station.link.connected)
    assert plane.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(("no_proxy", "proxied"), [("", True), ("127.0.0.1", False), ("*", False)])
async def test_the_usual_proxy_variables_count(
    no_proxy: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.close()

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", no_proxy)
        plane = Plane([_answer])
        async with _linked(plane):
            await until(lambda: lines if proxied else plane.connections)
    assert bool(lines) is proxied
    assert bool(plane.connections) is not proxied


# ----------------------------------------------------------------------------- the frames


async def _one_task(connection: Connection, station: Station, ending: list[dict[str, Any]]) -> None:
    """Hand out a task, end it once it is claimed, and keep on answering."""
    if connection.number == 0:
        await connection.send("task_assignment", **assignment())
    while True:
        frame = await connection.receive_frame()
        if frame["type"] == "task_claimed":
            station.end()
        if frame["type"] == "task_completed":
            ending.append(frame)
        if ack_id := frame["data"].get("ack_id"):
            await connection.send("ack", ack_id=ack_id)


async def _life_of_a_task(capabilities: str | None) -> list[str]:
    """Every frame that the worker sends for one task, as its text."""
    stations: list[Station] = []

    async def script(connection: Connection) -> None:
        await _one_task(connection, stations[0], [])

    plane = Plane([script], capabilities)
    async with _linked(plane) as station:
        stations.append(station)
        await until(lambda: station.backend.executions)
        await until(lambda: station.idle)
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
    async def script(connection: Connection) -> None:
        await connection.send("task_assignment", **assignment("run-1"))
        await connection.receive_frame()
        await connection.send("task_assignment", **assignment("run-2"))
        await connection.receive_frame()
        await connection.send("task_cancellation", task_id="run-1")
        await connection.answer()

    plane = Plane([script])
    async with _linked(plane) as station:
        await until(lambda: station.backend.executions.get("run-1"))
        await until(lambda: station.backend.executions["run-1"].stops == ["cancellation requested"])
    assert plane.frames == [
        '{"type":"task_claimed","data":{"task_id":"run-1","worker_id":"w"}}',
        '{"type":"task_rejected","data":{"task_id":"run-2","reason":"at_capacity"}}',
    ]


# ------------------------------------------------------------------------ broken connections


@dataclass
class Breaking:
    """Breaks the first connection after so many messages in either direction; ``total`` counts them."""

    breaks_after: int
    clean: bool
    station: Station | None = None
    claimed: bool = False
    ended: int = 0
    total: int = 0

    async def script(self, connection: Connection) -> None:
        if not self.ended and not self.claimed:
            await self._step(connection)
            await connection.send("task_assignment", **assignment())
        while True:
            await self._step(connection)
            data = await connection.receive()
            if isinstance(data, bytes):
                await self._step(connection)
                await connection.socket.pong(data)
            else:
                await self._take(connection, json.loads(data))

    async def _take(self, connection: Connection, frame: dict[str, Any]) -> None:
        assert self.station is not None
        if frame["type"] == "task_claimed":
            self.claimed = True
            self.station.end()
        if frame["type"] == "task_completed":
            assert self.claimed
            self.ended += 1
        if ack_id := frame["data"].get("ack_id"):
            await self._step(connection)
            await connection.send("ack", ack_id=ack_id)

    async def _step(self, connection: Connection) -> None:
        if connection.number > 0:
            return
        if self.total == self.breaks_after:
            if self.clean:
                await connection.socket.close()
            else:
                connection.abort()
            raise BrokenError
        self.total += 1


async def _task_over_a_breaking_connection(breaking: Breaking, capabilities: str | None) -> Plane:
    plane = Plane([breaking.script], capabilities)
    async with plane_on(plane):
        station = breaking.station = Station(_settings(plane))
        running = asyncio.create_task(station.link.run())
        await until(lambda: breaking.ended and station.idle)
        assert station.backend.launched == [ExecutionKey("run-1", "run-1-e1")]
        station.link.stop()
        await running
    return plane


#: Messages of a task's life: assignment, claim, ping, pong, report, ping, pong; with the
#: extensions a hello, the output and the acknowledgement besides. One more never breaks.
LIFE = {None: range(9), EXTENDED: range(14)}


@pytest.mark.parametrize("clean", [False, True], ids=["reset", "closed"])
@pytest.mark.parametrize(
    ("capabilities", "breaks_after"),
    [(capabilities, n) for capabilities, counts in LIFE.items() for n in counts],
)
async def test_a_report_arrives_wherever_the_connection_breaks(
    capabilities: str | None, breaks_after: int, clean: bool
) -> None:
    breaking = Breaking(breaks_after, clean)
    plane = await _task_over_a_breaking_connection(breaking, capabilities)
    assert breaking.ended >= 1
    assert len(plane.connections) == 2 or breaks_after >= 6  # what it owed is delivered: it may stop first
    kinds = [json.loads(frame)["type"] for frame in plane.frames]
    assert kinds.index("task_claimed") < kinds.index("task_completed")
    if capabilities:
        logs = [json.loads(frame)["data"] for frame in plane.frames if "task_log" in frame]
        assert {(log["offset"], log["text"]) for log in logs} == {(0, "the output\n")}


async def test_the_counts_of_the_test_above_cover_a_whole_life() -> None:
    for capabilities, counts in LIFE.items():
        breaking = Breaking(10**6, clean=True)
        await _task_over_a_breaking_connection(breaking, capabilities)
        assert breaking.total <= counts.stop


async def test_the_hello_of_the_next_connection_names_what_is_in_hand() -> None:
    async def first(connection: Connection) -> None:
        await connection.receive_frame()
        await connection.send("task_assignment", **assignment())
        await connection.receive_frame()
        connection.abort()

    plane = Plane([first, _answer], EXTENDED)
    async with _linked(plane):
        await until(lambda: len(plane.connections) == 2 and plane.connections[1].log)
    hello = json.loads(plane.connections[1].log[0])
    assert hello["data"]["executions"] == [{"task_id": "run-1", "execution_id": "run-1-e1"}]


# ------------------------------------------------------------------------------------ time


async def test_pings_keep_a_quiet_connection_alive() -> None:
    plane = Plane([_answer])
    async with _linked(plane, ping_interval=0.02, dead_after=0.5):
        await until(lambda: plane.connections and len(plane.connections[0].log) >= 40)
    assert len(plane.connections) == 1
    assert plane.connections[0].log[:3] == [b"1", b"2", b"3"]


async def test_a_silent_peer_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(connection: Connection) -> None:
        while True:
            await connection.receive()

    plane = Plane([silent, _answer])
    async with _linked(plane, ping_interval=0.05, dead_after=0.2):
        await until(lambda: len(plane.connections) >= 2)
    assert any(message.startswith("Connection to Oz lost: silent for 0 s") for message in caplog.messages)


async def test_the_peer_s_own_pings_are_answered() -> None:
    pongs: list[bytes] = []

    async def script(connection: Connection) -> None:
        await connection.socket.ping(b"are you there")
        message = await connection.socket.receive()
        pongs.append(bytes(message.data))

    plane = Plane([script, _answer])
    async with _linked(plane):
        await until(lambda: pongs)
    assert pongs == [b"are you there"]


async def test_a_peer_that_does_not_read_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def deaf(connection: Connection) -> None:
        await asyncio.sleep(3600)

    plane = Plane([deaf, _answer], EXTENDED)
    async with _linked(plane, write_timeout=0.2) as station:
        await until(lambda: station.link.connected)
        for number in range(24):
            for _ in range(16):
                station.logs.write(ExecutionKey(f"t{number}", f"t{number}"), b"x" * 65536)
        station.link.wake()
        await until(lambda: len(plane.connections) >= 2)
    assert any("a write took over 0 s" in message for message in caplog.messages)


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_said_in_one_line_and_tried_again_at_the_slowest_rate(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    plane = Plane([status, status, _answer])
    began = time.monotonic()
    async with _linked(plane, retry_cap=0.15) as station:
        await until(lambda: station.link.connected)
    assert time.monotonic() - began >= 0.3
    refusal = (
        f"the control plane at {plane.url} refused the API key (HTTP {status}): "
        "check WARP_API_KEY, and that the key belongs to this team; next try in 0 s"
    )
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [refusal, refusal]
    assert KEY not in caplog.text


async def test_a_refused_key_ends_the_link_where_the_settings_say_so() -> None:
    plane = Plane([401])
    async with plane_on(plane):
        station = Station(_settings(plane, exit_on_auth_failure=True))
        with pytest.raises(AuthRefusedError, match="refused the API key") as caught:
            await station.link.run()
    assert caught.value.exit_code is ExitCode.AUTH
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_any_other_status_is_tried_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    plane = Plane([status, status, _answer])
    async with _linked(plane, exit_on_auth_failure=True) as station:
        await until(lambda: station.link.connected)
    lost = [message for message in caplog.messages if message.startswith("Connection to Oz lost")]
    assert len(lost) == 2
    assert all(f"{plane.url} answered HTTP {status}; next try in 0.0 s" in message for message in lost)


async def test_a_peer_that_is_not_there_yet(caplog: pytest.LogCaptureFixture) -> None:
    plane = Plane([_answer])
    async with plane_on(plane):
        pass  # the port is known, and nobody listens on it
    station = Station(_settings(plane))
    running = asyncio.create_task(station.link.run())
    await until(lambda: sum("cannot be reached" in message for message in caplog.messages) >= 3)
    async with plane_on(plane):
        await until(lambda: station.link.connected)
        station.link.stop()
        await running


async def test_a_peer_that_does_not_answer_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        plane = Plane([], port=server.sockets[0].getsockname()[1])
        station = Station(_settings(plane, connect_timeout=0.05))
        running = asyncio.create_task(station.link.run())
        await until(lambda: any("no answer from" in message for message in caplog.messages))
        station.link.stop()
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

    async def script(connection: Connection) -> None:
        if isinstance(hostile, str):
            await connection.socket.send_str(hostile)
        else:
            await connection.socket.send_bytes(hostile)
        await connection.send("task_assignment", **assignment())
        await connection.answer()

    plane = Plane([script])
    async with _linked(plane) as station:
        await until(lambda: station.backend.executions)
        station.end()
        await until(lambda: station.idle)
    assert len(plane.connections) == 1
    assert CANARY not in caplog.text


async def test_a_binary_frame_counts_as_its_text() -> None:
    async def script(connection: Connection) -> None:
        frame = {"type": "task_assignment", "data": assignment()}
        await connection.socket.send_bytes(json.dumps(frame).encode())
        await connection.answer()

    async with _linked(Plane([script])) as station:
        await until(lambda: station.backend.executions)


async def test_a_prompt_of_a_mebibyte_is_no_trouble() -> None:
    async def script(connection: Connection) -> None:
        task = {"id": "run-1", "task_definition": {"prompt": "x" * 1024 * 1024}}
        await connection.send("task_assignment", **assignment(task=task))
        await connection.answer()

    plane = Plane([script])
    async with _linked(plane) as station:
        await until(lambda: station.backend.executions)
    assert len(plane.connections) == 1


async def test_a_frame_beyond_16_mib_ends_the_connection_and_not_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def oversized(connection: Connection) -> None:
        await connection.socket.send_str(CANARY + "x" * MAX_FRAME_BYTES)
        await connection.answer()

    async def second(connection: Connection) -> None:
        await connection.send("task_assignment", **assignment())
        await connection.answer()

    plane = Plane([oversized, second])
    async with _linked(plane) as station:
        await until(lambda: station.backend.executions)
        station.end()
        await until(lambda: station.idle)
    assert len(plane.connections) == 2
    assert any("the peer broke the protocol" in message for message in caplog.messages)
    assert CANARY not in caplog.text


async def test_bytes_that_are_no_websocket_end_the_connection_and_not_the_worker() -> None:
    async def garbage(connection: Connection) -> None:
        assert connection.request.transport is not None
        connection.request.transport.write(b"\xff" * 64)
        await connection.answer()

    plane = Plane([garbage, _answer])
    async with _linked(plane) as station:
        await until(lambda: len(plane.connections) == 2 and station.link.connected)


# ------------------------------------------------------------------------------------ stop


async def test_stop_closes_at_once() -> None:
    closed: list[int | None] = []

    async def script(connection: Connection) -> None:
        with contextlib.suppress(BrokenError):
            await connection.answer()
        closed.append(connection.socket.close_code)

    plane = Plane([script])
    async with plane_on(plane):
        station = Station(_settings(plane))
        running = asyncio.create_task(station.link.run())
        await until(lambda: station.link.connected)
        station.link.stop()
        async with asyncio.timeout(1.0):
            await running
        await until(lambda: closed)
    assert closed == [1000]
    assert not station.link.connected


async def test_stop_does_not_wait_for_a_peer_that_does_not_close() -> None:
    async def deaf(connection: Connection) -> None:
        await asyncio.sleep(3600)

    plane = Plane([deaf])
    async with plane_on(plane):
        station = Station(_settings(plane))
        running = asyncio.create_task(station.link.run())
        await until(lambda: station.link.connected)
        station.link.stop()
        async with asyncio.timeout(4.0):
            await running


@pytest.mark.parametrize("script", [500, 401])
async def test_stop_ends_the_wait_for_the_next_try(script: int) -> None:
    plane = Plane([script])
    async with plane_on(plane):
        station = Station(_settings(plane, retry_first=3600.0, retry_cap=3600.0))
        running = asyncio.create_task(station.link.run())
        await until(lambda: plane.requests)
        station.link.stop()
        async with asyncio.timeout(1.0):
            await running


async def test_a_rejection_without_a_connection_is_dropped() -> None:
    station = Station(_settings(Plane([], port=1)))
    station.link.reject(ExecutionKey("a", "a"), "at_capacity")
    assert not station.link.connected
