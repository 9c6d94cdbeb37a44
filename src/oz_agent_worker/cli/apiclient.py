"""The user's side of the Oz Agent API, as far as the commands need it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from oz_agent_worker import __version__
from oz_agent_worker.errors import AuthRefusedError, OzError

from .context import Target

__all__ = ["TERMINAL_STATES", "ApiClient", "ApiError", "LogEvent"]

TERMINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "ERROR", "CANCELLED", "BLOCKED"})


class ApiError(OzError):
    """The control plane refused a request, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A piece of a run's output, or (``state`` set) its end."""

    text: str = ""
    state: str | None = None


class ApiClient:
    """A client of one control plane; enter it to use it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            headers={
                "Authorization": f"Bearer {self._target.api_key.reveal()}",
                "User-Agent": f"oz-agent-worker/{__version__}",
                "X-Oz-Source": "CLI",
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def create_run(self, prompt: str, config: Mapping[str, Any], title: str | None) -> dict[str, Any]:
        """Submit a run; returns its ``run_id`` and ``state``."""
        body = {"prompt": prompt, "config": dict(config), **({"title": title} if title else {})}
        return await self._object("POST", "/agent/runs", json=body)

    async def get_run(self, run_id: str) -> dict[str, Any]:
        """Get one run."""
        return await self._object("GET", f"/agent/runs/{run_id}")

    async def list_runs(self, *, limit: int, states: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """List runs, the newest first, ``limit`` at most (0: all of them)."""
        runs: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page_size = min(100, limit - len(runs)) if limit else 100
            query = [("limit", str(page_size)), *(("state", state) for state in states)]
            page = await self._object(
                "GET", "/agent/runs", params=[*query, *([("cursor", cursor)] if cursor else [])]
            )
            runs += page["runs"]
            info = page.get("page_info") or {}
            cursor = info.get("next_cursor") if info.get("has_next_page") else None
            if not cursor or (limit and len(runs) >= limit):
                return runs

    async def cancel_run(self, run_id: str) -> None:
        """Ask for a run's cancellation."""
        await self._send("POST", f"/agent/runs/{run_id}/cancel")

    async def log(self, run_id: str) -> str:
        """Get a run's output so far."""
        return (await self._send("GET", f"/agent/runs/{run_id}/logs")).decode()

    async def follow(self, run_id: str) -> AsyncIterator[LogEvent]:
        """Yield a run's output as it comes, and its end last.

        Server-sent events (WHATWG HTML, section 9.2): one JSON object a ``data`` line.
        """
        async with await self._open(
            "GET", f"/agent/runs/{run_id}/logs", headers={"Accept": "text/event-stream"}
        ) as response:
            kind = ""
            async for raw in _lines(response):
                name, _, value = raw.partition(":")
                if name == "event":
                    kind = value.strip()
                elif name == "data" and kind in {"log", "end"}:
                    data = msgspec.json.decode(value)
                    yield LogEvent(data.get("text", ""), data.get("state") if kind == "end" else None)
                    if kind == "end":
                        return
        raise ApiError(f"{self._target.url} ended the log stream of run {run_id} before the run's end")

    # ------------------------------------------------------------------------- plumbing

    async def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body = await self._send(method, path, **options)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ApiError(f"{self._target.url}: the answer is no JSON object") from error

    async def _send(self, method: str, path: str, **options: Any) -> bytes:
        async with await self._open(method, path, **options) as response:
            return await response.read()

    async def _open(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        assert self._http is not None
        url = f"{self._target.url}/api/v1{path}"
        try:
            response = await self._http.request(method, url, **options)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(f"{self._target.url} cannot be reached: {error}") from error
        if response.status >= 400:
            raise await _refusal(self._target.url, response)
        return response


async def _refusal(url: str, response: aiohttp.ClientResponse) -> OzError:
    """Make an error of a problem document (RFC 7807)."""
    body = await response.read()
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {}
    text = problem.get("detail") or problem.get("title") or response.reason or "no reason given"
    if response.status == 401:
        return AuthRefusedError(f"{url} refused the API key: {text}; check WARP_API_KEY")
    return ApiError(f"{text} (HTTP {response.status})")


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Split a response into lines of any length."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode()
