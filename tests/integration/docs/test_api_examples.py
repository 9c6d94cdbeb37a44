"""Each example of docs/api.md, run in the page's order against a control plane and a worker."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.protocol.outcome import succeeded
from scripts.docs.parts import DOCS
from tests.integration.controlplane.support import ScriptedWorker, bearer, until
from tests.unit.docs.documents import blocks

from .examples import Request, alike, examples


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    """A control plane."""
    settings = ControlPlaneSettings(port=0, database_url=f"sqlite:///{tmp_path}/control-plane.db")
    async with ControlPlane(settings) as server:
        yield server


@pytest.fixture
async def key(server: ControlPlane) -> Secret:
    """Its key, of the name that the page shows."""
    return await server.create_api_key("alice")


@pytest.fixture
async def worker(server: ControlPlane, key: Secret) -> AsyncIterator[None]:
    """A worker at work: what echoes ends at once, anything else goes on."""
    async with ScriptedWorker(server.websocket_url, key, "my-worker") as connection:

        async def work() -> None:
            while True:
                message = json.loads(await connection.socket.receive_str())
                if message["type"] != "task_assignment":
                    continue
                task = message["data"]
                await connection.claim(task)
                if task["task"]["task_definition"]["prompt"].startswith("echo "):
                    text = task["task"]["task_definition"]["prompt"].removeprefix("echo ") + "\n"
                    await connection.log(task, 0, text)
                    report = {"task_id": task["task_id"], "message": succeeded().message, "ack_id": "a"}
                    await connection.send("task_completed", **report)

        working = asyncio.create_task(work())
        yield
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def ask(request: Request) -> tuple[str, Any]:
    """Send a request; return the content type and the body, decoded where it is JSON."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(request.method, request.url, headers=request.headers, data=request.body) as answer,
    ):
        text = await answer.text()
        return answer.content_type, json.loads(text) if "json" in answer.content_type else text


async def in_hand(server: ControlPlane, key: Secret, run_id: str) -> None:
    """Wait until a run that was created is a worker's or has ended."""
    headers, url = bearer(key), f"{server.url}/api/v1/agent/runs/{run_id}"
    look = Request("GET", url, headers, None)
    title = (await ask(look))[1]["title"]
    enough = {"SUCCEEDED"} if title == "Say hello" else {"CLAIMED"}
    await until(lambda: ask(look), lambda seen: seen[1]["state"] in enough)


@pytest.mark.usefixtures("worker")
async def test_each_example_is_answered_as_the_page_says(server: ControlPlane, key: Secret) -> None:
    variables = {"WARP_SERVER_ROOT_URL": server.url, "WARP_API_KEY": key.reveal()}
    made = 0
    for example in examples():
        kind, answer = await ask(example.request(variables))
        shown = example.answer.content
        if example.answer.language == "json":
            assert alike(answer) == alike(json.loads(shown)), str(example.command)
        else:
            assert kind in ("text/plain", "text/event-stream")
            assert alike(answer).rstrip() == alike(shown).rstrip(), str(example.command)
        if isinstance(answer, dict) and answer.get("state") == "QUEUED":
            variables["RUN_ID"] = answer["run_id"]
            await in_hand(server, key, answer["run_id"])
        made += 1
    assert made == 10


@pytest.mark.usefixtures("worker")
async def test_the_program_in_python_runs(
    server: ControlPlane, key: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARP_SERVER_ROOT_URL", server.url)
    monkeypatch.setenv("WARP_API_KEY", key.reveal())
    (program,) = blocks(DOCS / "api.md", "python")

    def run() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(program.content, str(program), "exec"), {})
        return printed.getvalue().strip()

    assert await asyncio.to_thread(run) in {"QUEUED", "PENDING", "CLAIMED", "INPROGRESS", "SUCCEEDED"}
