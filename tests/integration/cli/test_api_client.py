"""The user's client against a real HTTP server that breaks as control planes and networks do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from oz_agent_worker.cli.api_client import ApiClient, ControlPlaneError, LogEvent
from oz_agent_worker.cli.context import Target
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import AuthRefusedError
from tests.cluster.web_server import end_server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def _client_of(handler: Handler) -> AsyncIterator[ApiClient]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        target = Target(f"http://127.0.0.1:{runner.addresses[0][1]}", Secret("k"))
        async with ApiClient.connect(target, {}) as client:
            yield client
    finally:
        await end_server(runner)


async def _followed(client: ApiClient) -> list[LogEvent]:
    return [event async for event in client.follow("run-1")]


def _log(offset: int, text: str) -> bytes:
    return b'id: %d\nevent: log\ndata: {"offset":%d,"text":"%s"}\n\n' % (
        offset + len(text),
        offset,
        text.encode(),
    )


class BreakingStream:
    """Serves the output "one two three" and the end, and breaks the connection after every event."""

    def __init__(self, status_between: int | None = None) -> None:
        self.asked_from: list[str | None] = []
        self._status_between = status_between

    async def serve(self, request: web.Request) -> web.StreamResponse:
        asked_from = request.headers.get("Last-Event-ID")
        self.asked_from.append(asked_from)
        if self._status_between is not None and len(self.asked_from) % 2 == 0:
            return web.Response(status=self._status_between)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        events = {
            None: _log(0, "one "),
            "4": _log(4, "two "),
            "8": _log(8, "three"),
            "13": b'event: end\ndata: {"state":"SUCCEEDED"}\n\n',
        }
        await response.write(events[asked_from])
        await asyncio.sleep(0.02)  # what was written has to be read before the reset
        assert request.transport is not None
        request.transport.abort()
        return response


@pytest.mark.parametrize("status_between", [None, 503])
async def test_a_broken_stream_goes_on_where_it_ended(status_between: int | None) -> None:
    stream = BreakingStream(status_between)
    async with _client_of(stream.serve) as client:
        *output, end = await _followed(client)
    assert [event.text for event in output] == ["one ", "two ", "three"]
    assert end.state == "SUCCEEDED"
    assert list(dict.fromkeys(stream.asked_from)) == [None, "4", "8", "13"]


async def test_a_stream_that_cannot_be_had_at_first_is_not_waited_for() -> None:
    requests = 0

    async def handler(_request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        return web.Response(status=503)

    async with _client_of(handler) as client:
        with pytest.raises(ControlPlaneError, match="HTTP 503"):
            await _followed(client)
    assert requests == 1


async def test_a_refusal_after_a_break_ends_the_following() -> None:
    requests = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        if requests > 1:
            body = {"title": "Unauthorized", "detail": "The API key is not valid."}
            return web.json_response(body, status=401)
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async with _client_of(handler) as client:
        with pytest.raises(AuthRefusedError, match="refused the API key: The API key is not valid; check"):
            await _followed(client)
    assert requests == 2


async def test_an_answer_that_breaks_off_is_reported_as_an_error() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    async with _client_of(handler) as client:
        with pytest.raises(ControlPlaneError, match="broke"):
            await client.get_run("run-1")


async def test_a_server_that_is_no_control_plane_is_named() -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="<html>")

    async with _client_of(handler) as client:
        with pytest.raises(
            ControlPlaneError, match=r"http://127\.0\.0\.1:\d+ answered HTTP 404 \(Not Found\)"
        ):
            await client.get_run("run-1")


@pytest.mark.parametrize("body", [b"[]", b"<html>", b"{}"])
async def test_a_body_that_is_no_list_is_reported_as_an_error(body: bytes) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    async with _client_of(handler) as client:
        with pytest.raises(ControlPlaneError, match="is no"):
            await client.list_runs(limit=1)


async def test_an_id_reaches_the_server_as_one_part_of_the_path() -> None:
    paths: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        paths.append(request.raw_path)
        return web.json_response({"detail": "no"}, status=404)

    async with _client_of(handler) as client:
        with pytest.raises(ControlPlaneError):
            await client.get_run("a/b?c#d")
    assert paths == ["/api/v1/agent/runs/a%2Fb%3Fc%23d"]


async def test_a_prompt_is_sent_in_its_own_letters() -> None:
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.StreamResponse:
        assert request.content_type == "application/json"
        bodies.append(await request.read())
        return web.json_response({"run_id": "r", "state": "QUEUED"})

    async with _client_of(take) as client:
        await client.create_run("é" * 1000, {}, None)
    assert len(bodies[0]) < 2100
