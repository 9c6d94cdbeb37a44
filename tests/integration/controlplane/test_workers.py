"""Workers at the WebSocket: handshake, the life of a run, what goes wrong."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import pytest
from oz_agent_sdk import AsyncOzAPI
from sqlalchemy.exc import OperationalError

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store import keys
from tests.timeouts import HANG_TIMEOUT
from tests.unit.protocol.public_schema import type_faults

from .conftest import Connect
from .support import ScriptedWorker, bearer, until

Reaches = Callable[..., Any]


async def refused(server: ControlPlane, query: str, headers: dict[str, str]) -> int:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(server.websocket_url + query, headers=headers)
        return caught.value.status


async def test_handshakes_that_are_refused(server: ControlPlane, key: Secret) -> None:
    assert await refused(server, "?worker_id=w", {}) == 401
    assert await refused(server, "?worker_id=w", bearer("ozk_wrong")) == 401
    assert await refused(server, "", bearer(key)) == 400
    assert await refused(server, "?worker_id=", bearer(key)) == 400
    assert await refused(server, "?worker_id=warp-1", bearer(key)) == 400
    assert await refused(server, "?worker_id=a%0Ab", bearer(key)) == 400
    assert await refused(server, f"?worker_id={'x' * 300}", bearer(key)) == 400


async def test_k15_workers_that_are_refused_for_ever_are_not_a_line_each(
    server: ControlPlane, key: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("", None, Exception("disk full"))

    for _ in range(5):
        assert await refused(server, "?worker_id=w", bearer("ozk_wrong")) == 401
        assert await refused(server, "", bearer(key)) == 400
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(keys, "find_key", away)
        for _ in range(5):
            assert await refused(server, "?worker_id=w", bearer(key)) == 503
    said = [
        r.getMessage().partition(" was refused: ")[2]
        for r in caplog.records
        if r.levelname in {"WARNING", "ERROR"}
    ]
    assert said == [
        "401 authentication_required: The API key is not valid.",
        "400 invalid_request: worker_id: required in the query",
        "503 internal_error: The database does not answer: OperationalError.",
    ]


async def test_a_wrong_path_is_not_taken_for_a_wrong_key(server: ControlPlane, key: Secret) -> None:
    assert await refused(server, "/elsewhere?worker_id=w", bearer(key)) == 404
    url = server.websocket_url.replace("ws:", "http:")
    async with aiohttp.ClientSession() as session, session.get(url, headers=bearer(key)) as response:
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"


async def test_the_handshake_names_the_capabilities(server: ControlPlane, key: Secret) -> None:
    url = f"{server.websocket_url}?worker_id=w"
    # A handshake by hand: aiohttp's WebSocket hides the response's headers.
    async with aiohttp.ClientSession() as session:
        headers = bearer(key) | {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with session.get(url.replace("ws:", "http:"), headers=headers) as response:
            assert response.status == 101
            assert response.headers["X-Oz-Capabilities"] == "ack, hello, logs"
            response.close()


async def test_a_run_from_submitted_to_succeeded(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, http: aiohttp.ClientSession
) -> None:
    async with worker("build-1") as w:
        run_id = (await sdk.agent.run(prompt="Mend the build", config={"model_id": "m"})).run_id
        task = await w.assignment()
        assert task["task_id"] == run_id
        assert task["task"]["task_definition"] == {"prompt": "Mend the build"}
        assert type_faults(task) == []
        assert task["task"]["agent_config_snapshot"] == {"model_id": "m"}
        await w.claim(task)
        claimed = await reaches(run_id, "CLAIMED")
        assert claimed.worker_id == "build-1"
        await w.log(task, 0, "working\n")
        await reaches(run_id, "INPROGRESS")
        await w.complete(task)
    run = await sdk.agent.runs.retrieve(run_id)
    assert (run.state, run.status_message and run.status_message.message) == ("SUCCEEDED", "done")
    async with http.get(f"agent/runs/{run_id}/logs") as response:
        assert (response.content_type, await response.text()) == ("text/plain", "working\n")


@pytest.mark.parametrize(
    ("reason", "exit_code", "state", "retryable"),
    [("container_exit", 2, "FAILED", False), ("image_pull", 0, "ERROR", True)],
)
async def test_failures(
    sdk: AsyncOzAPI, worker: Connect, reason: str, exit_code: int, state: str, retryable: bool
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await w.claim(task)
        await w.fail(task, reason, exit_code)
    run = await sdk.agent.runs.retrieve(run_id)
    assert run.state == state
    assert run.status_message is not None
    assert (run.status_message.error_code, run.status_message.retryable) == (reason, retryable)


async def test_a_run_for_one_worker_reaches_no_other(sdk: AsyncOzAPI, worker: Connect) -> None:
    async with worker("one") as one, worker("two") as two:
        for host in ("two", "one", "two"):
            await sdk.agent.run(prompt=host, config={"worker_host": host})
        assert (await one.assignment())["task"]["title"] == "one"
        assert [(await two.assignment())["task"]["title"] for _ in range(2)] == ["two", "two"]
        assert await one.hears_nothing(0.1)


async def test_connections_of_one_worker_share_the_load(sdk: AsyncOzAPI, worker: Connect) -> None:
    async with worker() as one, worker() as two:
        for _ in range(6):
            await sdk.agent.run(prompt="p", config={"worker_host": "w"})
        tasks = [await w.assignment() for w in (one, two) for _ in range(3)]
        assert len({task["task_id"] for task in tasks}) == 6


async def test_a_declared_limit_is_kept(sdk: AsyncOzAPI, worker: Connect) -> None:
    async with worker(capacity=2) as w:
        for _ in range(3):
            await sdk.agent.run(prompt="p")
        first, second = await w.assignment(), await w.assignment()
        await w.claim(first)
        await w.claim(second)
        assert await w.hears_nothing(0.1)
        await w.complete(first)
        await w.assignment()


async def test_a_rejected_run_comes_again(sdk: AsyncOzAPI, worker: Connect, reaches: Reaches) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await w.reject(task)
        queued = await reaches(run_id, "QUEUED")
        assert "rejected the run: at capacity" in queued.status_message.message
        again = await w.assignment()
        assert (again["task_id"], again["execution_id"]) == (run_id, task["execution_id"])
        assert again["env_vars"] != task["env_vars"]


class TestUnclaimed:
    @pytest.fixture
    def settings(self, settings: ControlPlaneSettings) -> ControlPlaneSettings:
        return ControlPlaneSettings(port=0, database_url=settings.database_url, claim_timeout=0.2)

    async def test_a_run_that_a_public_worker_does_not_claim_comes_again(
        self, sdk: AsyncOzAPI, worker: Connect
    ) -> None:
        run_id = (await sdk.agent.run(prompt="p")).run_id
        async with worker(capacity=None) as w:
            first = await w.assignment()
            again = await w.assignment()
            assert [first["task_id"], again["task_id"]] == [run_id, run_id]
            assert first["execution_id"] == again["execution_id"]
            await w.claim(again)
            await w.complete(again)
        assert (await sdk.agent.runs.retrieve(run_id)).state == "SUCCEEDED"


async def test_cancelling_a_running_run_is_the_workers_to_confirm(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await w.claim(task)
        await reaches(run_id, "CLAIMED")
        await sdk.agent.runs.cancel(run_id)
        expected = {"task_id": run_id, "execution_id": task["execution_id"]}
        assert await w.receive("task_cancellation") == expected
        assert (await sdk.agent.runs.retrieve(run_id)).state == "CLAIMED"
        await w.complete(task, task_state="CANCELLED")
    assert (await sdk.agent.runs.retrieve(run_id)).state == "CANCELLED"


@pytest.mark.parametrize("answer", ["claims", "rejects"])
async def test_a_run_that_its_worker_has_not_answered_yet_is_cancelled(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches, answer: str
) -> None:
    """K5: a worker may try for a long time to create a Job."""
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await sdk.agent.runs.cancel(run_id)
        expected = {"task_id": run_id, "execution_id": task["execution_id"]}
        assert await w.receive("task_cancellation") == expected
        asked = await sdk.agent.runs.retrieve(run_id)
        assert asked.state == "PENDING"
        assert asked.status_message is not None
        assert "Cancellation requested" in asked.status_message.message
        if answer == "claims":
            await w.claim(task)
            assert await w.receive("task_cancellation") == expected
            await w.complete(task, task_state="CANCELLED")
        else:
            await w.reject(task)
        await reaches(run_id, "CANCELLED")


async def test_a_rejection_says_what_happened(sdk: AsyncOzAPI, worker: Connect, reaches: Reaches) -> None:
    """K5: the cluster's words are in the run."""
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        said = {"reason": "backend_unavailable", "message": 'failed calling webhook "a.b.c"'}
        await w.send("task_rejected", task_id=run_id, execution_id=task["execution_id"], **said)
        queued = await reaches(run_id, "QUEUED")
    expected = 'rejected the run: backend_unavailable: failed calling webhook "a.b.c"'
    assert expected in queued.status_message.message


async def test_a_cancellation_waits_for_a_worker_that_is_away(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker() as w:
        task = await w.assignment()
        await w.claim(task)
        await reaches(run_id, "CLAIMED")
    await sdk.agent.runs.cancel(run_id)
    held = {"task_id": run_id, "execution_id": task["execution_id"]}
    async with worker(holds=(held,)) as w:
        assert await w.receive("task_cancellation") == {"task_id": run_id}


async def test_a_public_worker_that_came_back_is_asked_to_cancel(
    sdk: AsyncOzAPI, worker: Connect, reaches: Reaches
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(capacity=None) as w:
        task = await w.assignment()
        await w.claim(task)
        await reaches(run_id, "CLAIMED")
    async with worker(capacity=None) as w:
        await sdk.agent.runs.cancel(run_id)
        assert await w.receive("task_cancellation") == {"task_id": run_id}


async def test_a_worker_that_takes_no_data_is_let_go_of(
    sdk: AsyncOzAPI, worker: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("oz_agent_worker.controlplane.gateway.worker_socket._WRITE_TIMEOUT", 0.2)
    monkeypatch.setattr("oz_agent_worker.controlplane.gateway.worker_socket._CLOSE_TIMEOUT", 0.1)
    async with worker("stuck"), worker("well") as well:
        # More than the buffers of both sides: the client reads ahead a little and stops.
        for _ in range(30):
            await sdk.agent.run(prompt="x" * 1024 * 1024, config={"worker_host": "stuck"})

        async def lines() -> str:
            return caplog.text

        await until(lines, lambda text: "it read nothing for 0.2 s" in text)
        await sdk.agent.run(prompt="p", config={"worker_host": "well"})
        await well.assignment()


async def test_an_agent_reads_its_own_run_and_nothing_else(
    server: ControlPlane, sdk: AsyncOzAPI, worker: Connect
) -> None:
    mine = (await sdk.agent.run(prompt="mine")).run_id
    async with worker() as w:
        task = await w.assignment()
        other = (await sdk.agent.run(prompt="other", config={"worker_host": "x"})).run_id
        token = task["env_vars"]["WARP_API_KEY"]
        api = f"{server.url}/api/v1/agent"
        async with aiohttp.ClientSession(headers=bearer(token)) as agent:
            seen = {}
            for method, path in (
                ("GET", f"runs/{mine}"),
                ("GET", f"runs/{mine}/logs"),
                ("GET", f"runs/{other}"),
                ("GET", f"runs/{other}/logs"),
                ("GET", "runs"),
                ("POST", "runs"),
                ("POST", f"runs/{mine}/cancel"),
            ):
                async with agent.request(method, f"{api}/{path}", json=None) as response:
                    seen[method, path] = response.status
            assert list(seen.values()) == [200, 200, 403, 403, 403, 403, 403], seen
            assert await refused(server, "?worker_id=w", bearer(token)) == 403
            await w.complete(task)
            async with agent.get(f"{api}/runs/{mine}") as response:
                assert response.status == 401


async def test_bad_frames_end_neither_the_connection_nor_the_server(
    sdk: AsyncOzAPI, worker: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker() as w:
        for frame in (
            "",
            "{",
            "null",
            '{"type": 7}',
            '{"type": "x", "data": {}}',
            '{"type": "task_claimed"}',
        ):
            await w.socket.send_str(frame)
        await w.socket.send_bytes(b"\xff")
        await w.socket.send_str("x" * (17 * 1024 * 1024))
        run_id = (await sdk.agent.run(prompt="p")).run_id
        task = await w.assignment()
        await w.complete(task)
    assert (await sdk.agent.runs.retrieve(run_id)).state == "SUCCEEDED"
    # K15: the first is logged, and the second says that more are only counted.
    assert len([r for r in caplog.records if "is ignored" in r.getMessage()]) == 2


async def test_a_frame_of_twice_the_limit_ends_its_connection_alone(sdk: AsyncOzAPI, worker: Connect) -> None:
    async with worker() as w, worker("other") as other:
        with suppress(ConnectionError):  # closed while the worker was still sending
            await w.socket.send_str("x" * (33 * 1024 * 1024))
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await w.socket.receive()).type is not aiohttp.WSMsgType.TEXT
        await sdk.agent.run(prompt="p", config={"worker_host": "other"})
        await other.assignment()


async def test_a_prompt_of_a_mebibyte_arrives_whole(sdk: AsyncOzAPI, worker: Connect) -> None:
    prompt = "Grüße, \U0001f680 " * (1024 * 1024 // 13)
    async with worker() as w:
        await sdk.agent.run(prompt=prompt)
        assert (await w.assignment())["task"]["task_definition"]["prompt"] == prompt


async def test_revoking_a_key_sends_its_workers_away(server: ControlPlane) -> None:
    key = await server.create_api_key("bob")
    async with ScriptedWorker(server.websocket_url, key) as w:
        (stored,) = [k for k in await server.list_api_keys() if k.name == "bob"]
        await server.revoke_api_key(stored.id)
        async with asyncio.timeout(HANG_TIMEOUT):
            assert (await w.socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert await refused(server, "?worker_id=w", bearer(key)) == 401


async def test_no_secret_is_logged(
    sdk: AsyncOzAPI, worker: Connect, key: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        async with worker() as w:
            await sdk.agent.run(prompt="my secret prompt")
            task = await w.assignment()
            await w.claim(task)
            await w.log(task, 0, "my secret output")
            await w.complete(task)
    ours = "\n".join(
        r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore", "oz_agent_sdk"))
    )
    assert "assigned" in ours
    for secret in (key.reveal(), task["env_vars"]["WARP_API_KEY"], "my secret prompt", "my secret output"):
        assert secret not in ours


async def test_200_runs_at_once_end_as_they_should(sdk: AsyncOzAPI, worker: Connect) -> None:
    created = await asyncio.gather(*(sdk.agent.run(prompt=f"run {n}") for n in range(200)))
    assert len({run.run_id for run in created}) == 200
    began: Counter[str] = Counter()

    async def work(w: ScriptedWorker) -> None:
        while True:
            message = await w.socket.receive()
            frame = json.loads(message.data)
            if frame["type"] != "task_assignment":
                continue
            task = frame["data"]
            began[task["task_id"]] += 1
            await w.claim(task)
            await w.log(task, 0, "hello\n")
            if int(task["task"]["title"].split()[1]) % 3:
                await w.send("task_completed", task_id=task["task_id"], message="", ack_id="1")
            else:
                await w.send(
                    "task_failed",
                    task_id=task["task_id"],
                    message="",
                    failure_reason="container_exit",
                    exit_code=1,
                )

    async with worker("a", capacity=25) as a, worker("b", capacity=25) as b:
        working = [asyncio.create_task(work(w)) for w in (a, b)]
        ended = partial(sdk.agent.runs.list, state=["SUCCEEDED", "FAILED"], limit=500)
        await until(ended, lambda page: len(page.runs) == 200)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    states = Counter(run.state for run in (await sdk.agent.runs.list(limit=500)).runs)
    assert states == {"SUCCEEDED": 133, "FAILED": 67}
    assert set(began.values()) == {1}
