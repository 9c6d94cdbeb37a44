"""A client of the Oz Agent API with what the commands need."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from oz_agent_worker import __version__
from oz_agent_worker.common.aiohttp_proxy import failure_text, proxy_options
from oz_agent_worker.common.backoff import full_jitter
from oz_agent_worker.common.proxy import Proxy, proxy_for
from oz_agent_worker.errors import AuthRefusedError, OzError, UsageError

from .context import Target

__all__ = ["TERMINAL_STATES", "ApiClient", "ControlPlaneError", "ControlPlaneUnreachableError", "LogEvent"]

TERMINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "ERROR", "CANCELLED", "BLOCKED"})

#: Status codes of a proxy while the control plane behind it restarts.
_UNAVAILABLE: Final = frozenset({502, 503, 504})
#: Attempts to reopen a broken stream: they take about half a minute.
_RETRIES: Final = 16


class ControlPlaneError(OzError):
    """The control plane refused a request, or cannot be reached."""


class ControlPlaneUnreachableError(ControlPlaneError):
    """The control plane cannot be reached, or the connection to it broke."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A piece of a run's output, or its end if ``state`` is set."""

    text: str = ""
    state: str | None = None


class ApiClient:
    """A client of one control plane; ``connect`` creates it."""

    def __init__(self, target: Target, http: aiohttp.ClientSession, proxy: Proxy | None) -> None:
        self._url = target.url
        self._http = http
        self._proxy = proxy

    @classmethod
    @asynccontextmanager
    async def connect(cls, target: Target, environ: Mapping[str, str]) -> "AsyncIterator[ApiClient]":
        """Open a client for the block; ``environ`` may name a proxy (``common.proxy``)."""
        headers = {
            "Authorization": f"Bearer {target.api_key.reveal()}",
            "User-Agent": f"oz-agent-worker/{__version__}",
            "X-Oz-Source": "CLI",
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
            yield cls(target, http, proxy_for(target.url, environ))

    async def create_run(
        self, prompt: str, config: Mapping[str, Any], title: str | None, *, safe_to_retry: bool = False
    ) -> dict[str, Any]:
        """Submit a run; returns its ``run_id`` and ``state``."""
        body: dict[str, Any] = {"prompt": prompt, "config": dict(config)}
        if title:
            body["title"] = title
        if safe_to_retry:
            # Sent only when set: other control planes may refuse a member that they do not know.
            body["safe_to_retry"] = True
        # msgspec writes non-ASCII letters as they are; \u escapes would triple a prompt's length.
        try:
            content = aiohttp.BytesPayload(msgspec.json.encode(body), content_type="application/json")
        except UnicodeEncodeError:
            raise UsageError("an argument is not UTF-8 text, and a run has text alone") from None
        return await self._object("POST", "/agent/runs", data=content)

    async def get_run(self, run_id: str) -> dict[str, Any]:
        """Get one run."""
        return await self._object("GET", _run_path(run_id))

    async def list_runs(self, *, limit: int, states: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """List runs, the newest first, ``limit`` at most (0: all of them)."""
        runs: list[dict[str, Any]] = []
        query = [("state", state) for state in states]
        cursor: list[tuple[str, str]] = []
        while True:
            page_size = min(100, limit - len(runs)) if limit else 100
            page = await self._object(
                "GET", "/agent/runs", params=[("limit", str(page_size)), *query, *cursor]
            )
            if "runs" not in page:
                raise ControlPlaneError(f"{self._url}: the answer is not a list of runs")
            runs += page["runs"]
            info = page.get("page_info") or {}
            if not info.get("has_next_page") or not info.get("next_cursor") or 0 < limit <= len(runs):
                return runs
            cursor = [("cursor", info["next_cursor"])]

    async def cancel_run(self, run_id: str) -> None:
        """Ask for a run's cancellation."""
        await self._send("POST", f"{_run_path(run_id)}/cancel")

    async def log(self, run_id: str) -> str:
        """Get a run's output so far."""
        return (await self._send("GET", f"{_run_path(run_id)}/logs")).decode()

    async def follow(self, run_id: str) -> AsyncIterator[LogEvent]:
        """Yield a run's output as it comes, and its end last.

        A stream that breaks, as at a restart of the control plane, continues where it broke.
        """
        last_id: str | None = None
        connected, delays = False, _delays()
        while True:
            try:
                headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
                async with await self._open("GET", f"{_run_path(run_id)}/logs", headers=headers) as response:
                    connected = True
                    async for event_id, event in self._events(response):
                        last_id, delays = event_id, _delays()
                        yield event
                        if event.state is not None:
                            return
                raise ControlPlaneUnreachableError(
                    f"{self._url} ended the log of run {run_id} before the run's end"
                )
            except ControlPlaneUnreachableError:
                delay = next(delays, None)
                # A control plane that was never reached is not waited for.
                if delay is None or not connected:
                    raise
            await asyncio.sleep(delay)

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str | None, LogEvent]]:
        """Read server-sent events (WHATWG HTML, section 9.2): one JSON object a ``data`` line."""
        last_id, kind, rest = None, "", b""
        async for chunk in self._chunks(response):
            # Lines may be longer than a chunk, and than any buffer's limit.
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                name, _, value = line.decode().partition(":")
                if name == "id":
                    last_id = value.strip()
                elif name == "event":
                    kind = value.strip()
                elif name == "data" and kind in {"log", "end"}:
                    data = msgspec.json.decode(value)
                    state = data.get("state") if kind == "end" else None
                    yield last_id, LogEvent(data.get("text", ""), state)

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of a response. Raises ControlPlaneUnreachableError if the connection breaks."""
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            name = type(error).__name__
            raise ControlPlaneUnreachableError(f"the connection to {self._url} broke: {name}") from error

    async def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body = await self._send(method, path, **options)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ControlPlaneError(f"{self._url}: the answer is not a JSON object") from error

    async def _send(self, method: str, path: str, **options: Any) -> bytes:
        async with await self._open(method, path, **options) as response:
            return b"".join([chunk async for chunk in self._chunks(response)])

    async def _open(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        url = f"{self._url}/api/v1{path}"
        try:
            response = await self._http.request(method, url, **proxy_options(self._proxy), **options)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            cause = failure_text(error, self._proxy)
            raise ControlPlaneUnreachableError(f"{self._url} cannot be reached: {cause}") from error
        if response.status >= 400:
            raise await _refusal(self._url, response)
        return response


def _delays() -> Iterator[float]:
    return islice(full_jitter(0.5, 5.0, random.uniform), _RETRIES)


def _run_path(run_id: str) -> str:
    try:
        return f"/agent/runs/{quote(run_id, safe='')}"
    except UnicodeEncodeError:
        raise UsageError(f"{run_id!r} is no run's ID: it is not UTF-8 text") from None


async def _refusal(url: str, response: aiohttp.ClientResponse) -> OzError:
    """The error that a response describes, whether or not its body is a problem document (RFC 7807)."""
    try:
        problem = msgspec.json.decode(await response.read(), type=dict[str, Any])
    except (msgspec.DecodeError, aiohttp.ClientError, TimeoutError, OSError):
        problem = {}
    status = response.status
    text = problem.get("detail") or problem.get("title")
    if status == 401:
        return AuthRefusedError(
            f"{url} refused the API key: {str(text or response.reason).rstrip('.')}; check WARP_API_KEY"
        )
    kind = ControlPlaneUnreachableError if status in _UNAVAILABLE else ControlPlaneError
    if not text:
        return kind(f"{url} answered HTTP {status} ({response.reason}): is that a control plane?")
    return kind(f"{text} (HTTP {status})")
