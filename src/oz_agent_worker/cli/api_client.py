"""The user's side of the Oz Agent API, as far as the commands need it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import msgspec

from oz_agent_worker import __version__
from oz_agent_worker.common.aiohttp_proxy import failure_words, proxy_options
from oz_agent_worker.common.backoff import full_jitter
from oz_agent_worker.common.proxy import proxy_for
from oz_agent_worker.errors import AuthRefusedError, OzError

from .context import Target

__all__ = ["TERMINAL_STATES", "ApiClient", "ControlPlaneError", "ControlPlaneUnreachableError", "LogEvent"]

TERMINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "ERROR", "CANCELLED", "BLOCKED"})

#: What a proxy answers while the control plane behind it restarts.
_UNAVAILABLE: Final = frozenset({502, 503, 504})
#: How often a stream that broke is tried again: for half a minute or so.
_TRIES: Final = 16


class ControlPlaneError(OzError):
    """The control plane refused a request, or cannot be reached."""


class ControlPlaneUnreachableError(ControlPlaneError):
    """The control plane cannot be reached, or the connection to it broke."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A piece of a run's output, or (``state`` set) its end."""

    text: str = ""
    state: str | None = None


class ApiClient:
    """A client of one control plane; enter it to use it. ``environ`` may name a proxy (``core.proxy``)."""

    def __init__(self, target: Target, environ: Mapping[str, str]) -> None:
        self._target = target
        self._proxy = proxy_for(target.url, environ)
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

    async def create_run(
        self, prompt: str, config: Mapping[str, Any], title: str | None, *, safe_to_retry: bool = False
    ) -> dict[str, Any]:
        """Submit a run; returns its ``run_id`` and ``state``."""
        body: dict[str, Any] = {"prompt": prompt, "config": dict(config)}
        if title:
            body["title"] = title
        if safe_to_retry:
            # Only our control plane knows it; another would refuse what it does not know.
            body["safe_to_retry"] = True
        # msgspec leaves letters as they are; \u escapes would make a prompt three times as long.
        content = aiohttp.BytesPayload(msgspec.json.encode(body), content_type="application/json")
        return await self._object("POST", "/agent/runs", data=content)

    async def get_run(self, run_id: str) -> dict[str, Any]:
        """Get one run."""
        return await self._object("GET", _run_path(run_id))

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
            try:
                runs += page["runs"]
            except KeyError:
                raise ControlPlaneError(f"{self._target.url}: the answer is no list of runs") from None
            info = page.get("page_info") or {}
            cursor = info.get("next_cursor") if info.get("has_next_page") else None
            if not cursor or (limit and len(runs) >= limit):
                return runs

    async def cancel_run(self, run_id: str) -> None:
        """Ask for a run's cancellation."""
        await self._send("POST", f"{_run_path(run_id)}/cancel")

    async def log(self, run_id: str) -> str:
        """Get a run's output so far."""
        return (await self._send("GET", f"{_run_path(run_id)}/logs")).decode()

    async def follow(self, run_id: str) -> AsyncIterator[LogEvent]:
        """Yield a run's output as it comes, and its end last.

        A stream that breaks, as at a restart of the control plane, goes on where it ended.
        """
        last_id: str | None = None
        reached, waits = False, _waits()
        while True:
            try:
                async with await self._open_stream(run_id, last_id) as response:
                    reached = True
                    async for event_id, event in self._events(response):
                        last_id, waits = event_id, _waits()
                        yield event
                        if event.state is not None:
                            return
                raise ControlPlaneUnreachableError(
                    f"{self._target.url} ended the log of run {run_id} before the run's end"
                )
            except ControlPlaneUnreachableError:
                wait = next(waits, None)
                # A control plane that was never there is not waited for.
                if wait is None or not reached:
                    raise
            await asyncio.sleep(wait)

    # ------------------------------------------------------------------------- plumbing

    async def _open_stream(self, run_id: str, last_id: str | None) -> aiohttp.ClientResponse:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        return await self._open("GET", f"{_run_path(run_id)}/logs", headers=headers)

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str | None, LogEvent]]:
        """Read server-sent events (WHATWG HTML, section 9.2): one JSON object a ``data`` line."""
        last_id, kind = None, ""
        async for line in self._lines(response):
            name, _, value = line.partition(":")
            if name == "id":
                last_id = value.strip()
            elif name == "event":
                kind = value.strip()
            elif name == "data" and kind in {"log", "end"}:
                data = msgspec.json.decode(value)
                yield last_id, LogEvent(data.get("text", ""), data.get("state") if kind == "end" else None)

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[str]:
        """Split a response into lines of any length."""
        rest = b""
        try:
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.rstrip(b"\r").decode()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> ControlPlaneUnreachableError:
        name = type(error).__name__
        return ControlPlaneUnreachableError(f"the connection to {self._target.url} broke: {name}")

    async def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body = await self._send(method, path, **options)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ControlPlaneError(f"{self._target.url}: the answer is no JSON object") from error

    async def _send(self, method: str, path: str, **options: Any) -> bytes:
        async with await self._open(method, path, **options) as response:
            try:
                return await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._broken(error) from error

    async def _open(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        assert self._http is not None
        url = f"{self._target.url}/api/v1{path}"
        try:
            response = await self._http.request(method, url, **proxy_options(self._proxy), **options)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            words = failure_words(error, self._proxy)
            raise ControlPlaneUnreachableError(f"{self._target.url} cannot be reached: {words}") from error
        if response.status >= 400:
            raise await _refusal(self._target.url, response)
        return response


def _waits() -> Iterator[float]:
    return islice(full_jitter(0.5, 5.0, random.uniform), _TRIES)


def _run_path(run_id: str) -> str:
    return f"/agent/runs/{quote(run_id, safe='')}"


async def _refusal(url: str, response: aiohttp.ClientResponse) -> OzError:
    """Make an error of a problem document (RFC 7807), or of an answer that is none."""
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
        return kind(f"{url} answered HTTP {status} ({response.reason}): is a control plane there?")
    return kind(f"{text} (HTTP {status})")
