"""kill -9 at the moments that matter, then a new process on the same database."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from oz_agent_sdk import AsyncOzAPI

from oz_agent_worker.common.secret import Secret
from tests.timeouts import HANG_TIMEOUT

from .support import ScriptedWorker, until

ROOT = Path(__file__).parents[3]


class Process:
    """A running control plane, and the ways to it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, key: str) -> None:
        self._process = process
        self.key = Secret(key)
        self.sdk = AsyncOzAPI(base_url=f"{url}/api/v1", api_key=key, max_retries=0, timeout=HANG_TIMEOUT)
        self._websocket_url = f"ws{url.removeprefix('http')}/api/v1/selfhosted/worker/ws"

    def worker(self, worker_id: str = "w", **options: object) -> ScriptedWorker:
        return ScriptedWorker(self._websocket_url, self.key, worker_id, **options)  # type: ignore[arg-type]

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def state(self, run_id: str) -> str:
        return (await self.sdk.agent.runs.retrieve(run_id)).state


@asynccontextmanager
async def control_plane(database: Path, claim_timeout: float = 30.0) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.controlplane.serve",
        f"sqlite:///{database}",
        str(claim_timeout),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(HANG_TIMEOUT):
            url, key = (await process.stdout.readline()).decode().split()
        running = Process(process, url, key)
        async with running.sdk:
            yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_killed_before_the_assignment(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "db") as first:
        run_id = (await first.sdk.agent.run(prompt="p")).run_id
        await first.kill()
    async with control_plane(tmp_path / "db") as second, second.worker() as w:
        task = await w.assignment()
        assert task["task_id"] == run_id
        await w.complete(task)
        assert await second.state(run_id) == "SUCCEEDED"


async def test_killed_between_assignment_and_claim(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "db", claim_timeout=1) as first:
        run_id = (await first.sdk.agent.run(prompt="p")).run_id
        async with first.worker(instance="host/a") as w:
            task = await w.assignment()
            await first.kill()
    async with control_plane(tmp_path / "db", claim_timeout=1) as second:
        async with second.worker("other") as other, second.worker(instance="host/b") as twin:
            # Neither could know whether the first one has started it.
            assert await other.hears_nothing(1.5)
            assert await twin.hears_nothing(0.1)
        async with second.worker(instance="host/a") as w:
            again = await w.assignment()
            assert (again["task_id"], again["execution_id"]) == (run_id, task["execution_id"])
            await w.claim(again)
            await w.complete(again)
        assert await second.state(run_id) == "SUCCEEDED"


async def test_killed_between_assignment_and_claim_with_a_worker_that_has_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "db") as first:
        run_id = (await first.sdk.agent.run(prompt="p")).run_id
        async with first.worker() as w:
            task = await w.assignment()
            await first.kill()
    held = {"task_id": run_id, "execution_id": task["execution_id"]}
    async with control_plane(tmp_path / "db") as second, second.worker(holds=(held,)) as w:
        await until(lambda: second.state(run_id), lambda state: state == "CLAIMED")
        await w.complete(task)
        assert await second.state(run_id) == "SUCCEEDED"


async def test_killed_after_the_claim_the_run_is_still_its_workers(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "db", claim_timeout=0.5) as first:
        run_id = (await first.sdk.agent.run(prompt="p")).run_id
        async with first.worker() as w:
            task = await w.assignment()
            await w.claim(task)
            await until(lambda: first.state(run_id), lambda state: state == "CLAIMED")
            await first.sdk.agent.runs.cancel(run_id)
            await first.kill()
    async with control_plane(tmp_path / "db", claim_timeout=0.5) as second, second.worker() as w:
        # The wish to cancel was stored, so it is repeated.
        assert await w.receive("task_cancellation") == {"task_id": run_id}
        await w.complete(task, task_state="CANCELLED")
        assert await second.state(run_id) == "CANCELLED"


async def test_what_was_acknowledged_is_not_lost(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "db") as first:
        ids = [(await first.sdk.agent.run(prompt="p")).run_id for _ in range(20)]
        async with first.worker() as w:
            tasks = [await w.assignment() for _ in ids]
            for task in tasks:
                await w.send("task_completed", task_id=task["task_id"], message="", ack_id=task["task_id"])
            acknowledged = [(await w.receive("ack"))["ack_id"] for _ in range(7)]
            await first.kill()
            # What was on its way when the process died counts too: it had been committed.
            while (message := await w.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                acknowledged.append(message.json()["data"]["ack_id"])
    async with control_plane(tmp_path / "db") as second:
        for run_id in acknowledged:
            assert await second.state(run_id) == "SUCCEEDED"
