"""Output over HTTP: whole, live, resumed, bounded."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from oz_agent_sdk import AsyncOzAPI

from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings

from .conftest import Connect
from .events import Event, events

Reaches = Callable[..., Any]


async def test_output_is_followed_live_up_to_the_end(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI, worker: Connect
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with http.get(f"agent/runs/{run_id}/logs?follow=1") as response, worker() as w:
        assert response.content_type == "text/event-stream"
        stream = events(response)
        task = await w.assignment()
        await w.claim(task)
        await w.log(task, 0, "one\n")
        assert await anext(stream) == Event("log", {"offset": 0, "text": "one\n"}, "4")
        await w.log(task, 4, "zwölf\n")
        assert await anext(stream) == Event("log", {"offset": 4, "text": "zwölf\n"}, "11")
        await w.fail(task, "container_exit", 2)
        end = await anext(stream)
        assert end.kind == "end"
        assert end.data == {
            "run_id": run_id,
            "state": "FAILED",
            "status_message": {
                "message": "failed: container_exit",
                "error_code": "container_exit",
                "retryable": False,
            },
        }
        assert [event async for event in stream] == []


async def test_a_stream_goes_on_where_it_broke(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI, worker: Connect
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await w.log(task, 0, "one\ntwo\n")
        await w.complete(task)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "4"}
    async with http.get(f"agent/runs/{run_id}/logs", headers=headers) as response:
        seen = [event async for event in events(response)]
    assert seen[0] == Event("log", {"offset": 4, "text": "two\n"}, "8")
    assert [event.kind for event in seen] == ["log", "end"]


@pytest.mark.parametrize("event_id", ["x", "-1", "9" * 30, "0" * 20 + "9" * 30, "9" * 5000, "²"])
async def test_an_event_id_of_another_stream(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI, event_id: str
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    headers = {"Last-Event-ID": event_id}
    async with http.get(f"agent/runs/{run_id}/logs?follow=1", headers=headers) as response:
        assert response.status == 400


async def test_a_run_cancelled_in_the_queue_ends_its_stream(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with http.get(f"agent/runs/{run_id}/logs?follow=1") as response:
        stream = events(response)
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        await sdk.agent.runs.cancel(run_id)
        assert (await following).data["state"] == "CANCELLED"


async def test_many_pieces_arrive_whole_and_in_order_at_several_subscribers(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI, worker: Connect
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id

    async def follow() -> str:
        async with http.get(f"agent/runs/{run_id}/logs?follow=1") as response:
            return "".join([e.data["text"] async for e in events(response) if e.kind == "log"])

    subscribers = [asyncio.create_task(follow()) for _ in range(3)]
    lines = [f"line {n} ü\n" for n in range(1000)]
    async with worker() as w:
        task = await w.assignment()
        offset = 0
        for line in lines:
            await w.log(task, offset, line)
            offset += len(line.encode())
        await w.complete(task)
    for text in await asyncio.gather(*subscribers):
        assert text == "".join(lines)


async def test_output_sent_again_after_a_reconnection_is_not_doubled(
    http: aiohttp.ClientSession, sdk: AsyncOzAPI, worker: Connect
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await w.claim(task)
        await w.log(task, 0, "one\ntwo\n")
    held = {"task_id": run_id, "execution_id": task["execution_id"]}
    async with worker(holds=(held,)) as w:
        await w.log(task, 4, "two\nthree\n")
        await w.complete(task)
    async with http.get(f"agent/runs/{run_id}/logs") as response:
        assert await response.text() == "one\ntwo\nthree\n"


class TestRetention:
    @pytest.fixture
    def settings(self, settings: ControlPlaneSettings) -> ControlPlaneSettings:
        return ControlPlaneSettings(port=0, database_url=settings.database_url, log_retention_bytes=1000)

    async def test_the_last_part_is_kept_and_the_rest_is_owned_up_to(
        self, http: aiohttp.ClientSession, sdk: AsyncOzAPI, worker: Connect
    ) -> None:
        run_id = (await sdk.agent.run(prompt="p")).run_id
        async with worker() as w:
            task = await w.assignment()
            for n in range(100):
                await w.log(task, n * 100, f"{n:099d}\n")
            await w.complete(task)
        async with http.get(f"agent/runs/{run_id}/logs") as response:
            text = await response.text()
        assert text == "[9000 bytes of output are not kept]\n" + "".join(
            f"{n:099d}\n" for n in range(90, 100)
        )


async def test_a_closing_server_ends_the_stream_without_claiming_an_end(
    settings: ControlPlaneSettings,
) -> None:
    async with aiohttp.ClientSession() as session:
        async with ControlPlane(settings) as server:
            key = await server.create_api_key("alice")
            headers = {"Authorization": f"Bearer {key.reveal()}"}
            async with AsyncOzAPI(base_url=f"{server.url}/api/v1", api_key=key.reveal()) as sdk:
                run_id = (await sdk.agent.run(prompt="p")).run_id
            url = f"{server.url}/api/v1/agent/runs/{run_id}/logs?follow=1"
            response = await session.get(url, headers=headers)
        assert [event async for event in events(response)] == []
        response.close()
