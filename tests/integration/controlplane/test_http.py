"""What the API says beyond the official client: errors, limits, health."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from io import BytesIO

import aiohttp
import pytest
from yarl import URL

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings

from .support import bearer

MIB = 1024 * 1024
MEMBERS = {"type", "title", "status", "detail", "instance", "error", "retryable", "trace_id"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404),
        ("DELETE", "agent/runs", 405),
        ("PUT", "agent/runs/x", 405),
        ("GET", "agent/run", 405),
        ("GET", "agent/runs/unknown", 404),
        ("GET", "agent/runs/unknown/logs", 404),
        ("POST", "agent/runs/unknown/cancel", 404),
        ("GET", "agent/runs?limit=0", 400),
        ("GET", "agent/runs?cursor=AAAA", 400),
        ("GET", "agent/runs?stat=QUEUED", 400),
        ("POST", "agent/runs", 400),
        ("GET", "agent/runs?name=%00", 400),
        ("GET", f"agent/runs?q={'+'.join(map(str, range(1200)))}", 400),
    ],
)
async def test_every_error_is_a_problem(
    http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with http.request(method, path) as response:
        assert (response.status, response.content_type) == (status, "application/problem+json")
        problem = await response.json(content_type=None)
    assert set(problem) == MEMBERS
    assert problem["status"] == status
    assert problem["instance"] == f"/api/v1/{path.partition('?')[0]}"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/logs"), ("POST", "/cancel")])
async def test_a_run_id_with_nul_is_refused(http: aiohttp.ClientSession, method: str, path: str) -> None:
    """P8: PostgreSQL cannot look for it."""
    async with http.request(method, URL(f"agent/runs/a%00b{path}", encoded=True)) as response:
        problem = await response.json(content_type=None)
    assert (response.status, problem["detail"]) == (400, "run_id: contains a NUL character")


@pytest.mark.parametrize(
    ("parent", "detail"),
    [
        ("", "parent_run_id: is empty"),
        ("nobody", "parent_run_id: there is no run nobody"),
        ("a\0", "parent_run_id: contains a NUL character"),
    ],
)
async def test_a_parent_must_exist(http: aiohttp.ClientSession, parent: str, detail: str) -> None:
    """P8: an empty ID is no ID."""
    async with http.post("agent/runs", json={"prompt": "p", "parent_run_id": parent}) as response:
        problem = await response.json(content_type=None)
    assert (response.status, problem["detail"]) == (400, detail)


@pytest.mark.parametrize("event_id", ["9" * 5000, "0" * 5000, "-1", "9" * 19])
async def test_a_last_event_id_that_is_none(http: aiohttp.ClientSession, event_id: str) -> None:
    """P8: a number of any length."""
    async with http.post("agent/runs", json={"prompt": "p", "config": {"worker_host": "nobody"}}) as response:
        run_id = (await response.json())["run_id"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": event_id}
    async with http.get(f"agent/runs/{run_id}/logs", headers=headers) as response:
        problem = await response.json(content_type=None)
    assert (response.status, problem["detail"].partition(":")[0]) == (400, "Last-Event-ID")


async def test_a_wrong_method_names_the_right_ones(http: aiohttp.ClientSession) -> None:
    async with http.delete("agent/runs") as response:
        assert {"GET", "POST"} <= set(response.headers["Allow"].replace(" ", "").split(","))


async def test_a_validation_error_names_the_field(http: aiohttp.ClientSession) -> None:
    async with http.post("agent/runs", json={"prompt": "p", "config": {"harness": {"type": 1}}}) as response:
        problem = await response.json(content_type=None)
    assert problem["detail"].startswith("config.harness.type: ")


async def test_a_body_of_15_mib_is_taken(http: aiohttp.ClientSession) -> None:
    prompt = "x" * (15 * MIB)
    async with http.post("agent/runs", data=BytesIO(json.dumps({"prompt": prompt}).encode())) as response:
        assert response.status == 200
        run_id = (await response.json())["run_id"]
    async with http.get(f"agent/runs/{run_id}") as response:
        assert (await response.json())["prompt"] == prompt


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_of_17_mib_is_not(http: aiohttp.ClientSession, announced: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * MIB

    body = BytesIO(b" " * (17 * MIB)) if announced else chunks()
    # The server may close while the client is still sending: refused as well.
    with suppress(aiohttp.ClientConnectionError):
        async with http.post("agent/runs", data=body) as response:
            assert response.status == 413
    async with http.get("agent/runs") as response:
        assert (await response.json())["runs"] == []


async def test_health_needs_no_key(server: ControlPlane) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_a_database_that_is_away_is_no_reason_for_a_restart(
    server: ControlPlane, settings: ControlPlaneSettings
) -> None:
    with closing(sqlite3.connect(settings.database_url.removeprefix("sqlite:///"))) as database:
        database.execute("DROP TABLE runs")
    answers = []
    async with aiohttp.ClientSession() as session:
        for path in ("livez", "healthz"):
            async with session.get(f"{server.url}/{path}") as response:
                answers.append((response.status, (await response.json(content_type=None))["status"]))
    assert answers == [(200, "ok"), (503, 503)]


async def test_the_source_is_the_callers_choice_among_known_ones(http: aiohttp.ClientSession) -> None:
    seen = []
    for source in ("CLI", "cli", "MOON"):
        async with http.post("agent/runs", json={"prompt": "p"}, headers={"X-Oz-Source": source}) as response:
            run_id = (await response.json())["run_id"]
        async with http.get(f"agent/runs/{run_id}") as response:
            seen.append((await response.json())["source"])
    assert seen == ["CLI", "CLI", "API"]


async def test_a_list_shortens_prompts_and_a_run_does_not(http: aiohttp.ClientSession) -> None:
    async with http.post("agent/runs", json={"prompt": "x" * 5000}) as response:
        run_id = (await response.json())["run_id"]
    async with http.get("agent/runs") as response:
        assert len((await response.json())["runs"][0]["prompt"]) == 2000
    async with http.get(f"agent/runs/{run_id}") as response:
        assert len((await response.json())["prompt"]) == 5000


@pytest.mark.parametrize(
    "header", ["", "Basic abc", "Bearer", "Bearer ", "Bearer ozk_wrong", "Bearer ozw_wrong"]
)
async def test_no_valid_key_no_answer(server: ControlPlane, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        for method, path in (("GET", "agent/runs"), ("POST", "agent/runs"), ("GET", "agent/runs/x/logs")):
            async with session.request(method, f"{server.url}/api/v1/{path}") as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_revoked_key_is_worth_nothing(server: ControlPlane, key: Secret) -> None:
    other = await server.create_api_key("bob")
    (stored,) = [k for k in await server.list_api_keys() if k.name == "bob"]
    assert await server.revoke_api_key(stored.id)
    assert not await server.revoke_api_key(stored.id)
    async with aiohttp.ClientSession() as session:
        for token, status in ((other, 401), (key, 200)):
            async with session.get(f"{server.url}/api/v1/agent/runs", headers=bearer(token)) as response:
                assert response.status == status


async def test_a_key_can_be_brought(server: ControlPlane) -> None:
    brought = Secret("k" * 40)
    assert await server.ensure_api_key("chart", brought) == await server.ensure_api_key("chart", brought)
    async with (
        aiohttp.ClientSession(headers=bearer(brought)) as session,
        session.get(f"{server.url}/api/v1/agent/runs") as response,
    ):
        assert response.status == 200
