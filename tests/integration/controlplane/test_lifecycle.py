"""Starting, stopping, and being a part of another program."""

import asyncio
import dataclasses
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.errors import ConfigError, PreflightError
from tests.timeouts import HANG_TIMEOUT

from .support import ScriptedWorker, bearer


async def test_it_stops_with_streams_and_workers_open(settings: ControlPlaneSettings) -> None:
    async with asyncio.timeout(HANG_TIMEOUT), aiohttp.ClientSession() as session:
        async with ControlPlane(settings) as server:
            key = await server.create_api_key("alice")
            api = f"{server.url}/api/v1/agent/runs"
            async with session.post(api, json={"prompt": "p"}, headers=bearer(key)) as response:
                run_id = (await response.json())["run_id"]
            worker = await ScriptedWorker(server.websocket_url, key).__aenter__()
            await worker.assignment()
            stream = await session.get(f"{api}/{run_id}/logs?follow=1", headers=bearer(key))
        message = await worker.socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.SERVICE_RESTART)
        await worker.__aexit__(None, None, None)
        stream.close()


async def test_signals_stay_the_programs_own(settings: ControlPlaneSettings) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with ControlPlane(settings):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_serving_for_ever_ends_when_cancelled(settings: ControlPlaneSettings) -> None:
    async with ControlPlane(settings) as server:
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0.01)
        assert not serving.done()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/healthz") as response:
            assert response.status == 200


async def test_it_starts_again_on_the_same_database(settings: ControlPlaneSettings) -> None:
    async with ControlPlane(settings) as server:
        key = await server.create_api_key("alice")
    async with (
        ControlPlane(settings) as server,
        aiohttp.ClientSession(headers=bearer(key)) as session,
        session.get(f"{server.url}/api/v1/agent/runs") as response,
    ):
        assert response.status == 200


async def test_two_on_one_database_are_refused(settings: ControlPlaneSettings) -> None:
    async with ControlPlane(settings):
        with pytest.raises(PreflightError, match="another control plane is running"):
            await ControlPlane(settings).__aenter__()


async def test_an_address_in_use(settings: ControlPlaneSettings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: Address"):
            await ControlPlane(dataclasses.replace(settings, port=port)).__aenter__()
    # What had been opened was closed again: the database is free.
    async with ControlPlane(settings):
        pass


async def test_an_address_of_another_machine(settings: ControlPlaneSettings) -> None:
    with pytest.raises(PreflightError, match="cannot listen on"):
        await ControlPlane(dataclasses.replace(settings, host="host.invalid")).__aenter__()


async def test_a_database_that_cannot_be_used(settings: ControlPlaneSettings) -> None:
    with pytest.raises(ConfigError, match="must name a file"):
        await ControlPlane(dataclasses.replace(settings, database_url="sqlite://")).__aenter__()


async def test_the_urls(settings: ControlPlaneSettings) -> None:
    async with ControlPlane(dataclasses.replace(settings, public_url="https://oz.example/")) as server:
        port = server.url.rpartition(":")[2]
        assert server.url == f"http://127.0.0.1:{port}"
        assert server.websocket_url == f"ws://127.0.0.1:{port}/api/v1/selfhosted/worker/ws"
        assert server.public_url == "https://oz.example"
