"""Connections that break at every message of a task's life, over a real WebSocket."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from oz_agent_worker.protocol.report import ExecutionKey

from .connected_worker import ConnectedWorker, answer, connected_worker, settings
from .scripted_plane import EXTENDED, BrokenError, PeerConnection, Plane, assignment, plane_on, until


@dataclass
class Breaking:
    """Breaks the first connection after so many messages in either direction; ``total`` counts them."""

    breaks_after: int
    clean: bool
    client: ConnectedWorker | None = None
    claimed: bool = False
    ended: int = 0
    total: int = 0

    async def script(self, connection: PeerConnection) -> None:
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

    async def _take(self, connection: PeerConnection, frame: dict[str, Any]) -> None:
        assert self.client is not None
        if frame["type"] == "task_claimed":
            self.claimed = True
            self.client.end()
        if frame["type"] == "task_completed":
            assert self.claimed
            self.ended += 1
        if ack_id := frame["data"].get("ack_id"):
            await self._step(connection)
            await connection.send("ack", ack_id=ack_id)

    async def _step(self, connection: PeerConnection) -> None:
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
        client = breaking.client = ConnectedWorker(settings(plane))
        running = asyncio.create_task(client.connection.run())
        await until(lambda: breaking.ended and client.idle)
        assert client.backend.launched == [ExecutionKey("run-1", "run-1-e1")]
        client.connection.stop()
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
    async def first(connection: PeerConnection) -> None:
        await connection.receive_frame()
        await connection.send("task_assignment", **assignment())
        await connection.receive_frame()
        connection.abort()

    plane = Plane([first, answer], EXTENDED)
    async with connected_worker(plane):
        await until(lambda: len(plane.connections) == 2 and plane.connections[1].log)
    hello = json.loads(plane.connections[1].log[0])
    assert hello["data"]["executions"] == [{"task_id": "run-1", "execution_id": "run-1-e1"}]
