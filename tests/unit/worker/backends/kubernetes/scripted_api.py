"""An API server behind the HTTP library, for tests in virtual time: each request gets the next answer.

The client is the real one; only its session is replaced. Answers stream, pause, break and end as the
test says, and without a socket.
"""

import asyncio
import itertools
import ssl
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from unittest import mock

import aiohttp
import msgspec
from multidict import CIMultiDict

from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import Credentials
from oz_agent_worker.worker.backends.kubernetes.api.identity import Cluster, ClusterUser

__all__ = [
    "Answer",
    "Asked",
    "Part",
    "ScriptedApi",
    "failure",
    "job",
    "line",
    "listing",
    "scripted_client",
    "stream",
]

#: What an answer's body consists of: bytes, a pause in seconds, or an error that breaks the connection.
Part = bytes | float | Exception


@dataclass
class Answer:
    """What a request gets. A body that does not end stays open, as a watch's does."""

    status: int = 200
    parts: tuple[Part, ...] = ()
    ends: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: Exception | None = None


@dataclass
class Asked:
    """A request as it came: its kind is ``list``, ``watch``, ``log``, ``follow`` or the method."""

    at: float
    kind: str
    path: str
    query: dict[str, str]


def listing(version: str, *items: dict[str, Any], token: str | None = None) -> Answer:
    """A page of a list."""
    metadata = {"resourceVersion": version, "continue": token}
    return Answer(parts=(msgspec.json.encode({"metadata": metadata, "items": items}),))


def stream(*parts: Part, ends: bool = False) -> Answer:
    """A watch or a followed log."""
    return Answer(parts=parts, ends=ends)


def failure(code: int, message: str = "no", *, retry_after: int | None = None, reason: str = "") -> Answer:
    """A Status with an error's code."""
    status = {"kind": "Status", "code": code, "message": message, "reason": reason}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Answer(code, (msgspec.json.encode(status),), headers=headers)


def job(name: str, version: int | str, uid: str = "u", **status: Any) -> dict[str, Any]:
    """A Job as the API sends it."""
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}, "status": status}


def line(kind: str, content: dict[str, Any]) -> bytes:
    """An event of a watch."""
    return msgspec.json.encode({"type": kind, "object": content}) + b"\n"


class ScriptedApi:
    """Answers by the kind of the request, in order; where nothing is left, with ``otherwise``."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, deque[Answer]] = defaultdict(deque)
        self.otherwise: dict[str, Answer] = {
            "watch": stream(),
            "follow": stream(),
            "log": stream(ends=True),
            "list": failure(404, "nothing is scripted"),
        }

    def answer(self, kind: str, *answers: Answer) -> None:
        """Queue answers for requests of this kind."""
        self.answers[kind].extend(answers)

    def kinds(self) -> list[str]:
        """The kinds of the requests that came, in order."""
        return [asked.kind for asked in self.asked]

    def pauses(self, kind: str) -> list[float]:
        """The seconds between requests of one kind."""
        times = [asked.at for asked in self.asked if asked.kind == kind]
        return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]

    async def request(
        self, method: str, url: str, *, params: Iterable[tuple[str, str]], **others: Any
    ) -> "_Response":
        """See ``aiohttp.ClientSession.request``."""
        query, path = dict(params), url.removeprefix("http://api")
        kind = method
        if method == "GET":
            kind = next((kind for kind in ("watch", "follow") if kind in query), "list")
            kind = "log" if kind == "list" and path.endswith("/log") else kind
        self.asked.append(Asked(asyncio.get_running_loop().time(), kind, path, query))
        await asyncio.sleep(0)
        queued = self.answers[kind]
        answer = queued.popleft() if queued else self.otherwise[kind]
        if answer.refused is not None:
            raise answer.refused
        return _Response(answer)

    async def close(self) -> None:
        """See ``aiohttp.ClientSession.close``."""


class _Response:
    """The part of ``aiohttp.ClientResponse`` that the client uses."""

    connection = None

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = CIMultiDict(answer.headers)
        protocol = cast("Any", mock.Mock(_reading_paused=False))
        self.content = aiohttp.StreamReader(protocol, 2**20, loop=asyncio.get_running_loop())
        self._feeding = asyncio.create_task(self._feed(answer))

    async def _feed(self, answer: Answer) -> None:
        for part in answer.parts:
            if isinstance(part, bytes):
                self.content.feed_data(part)
            elif isinstance(part, Exception):
                self.content.set_exception(part)
                return
            else:
                await asyncio.sleep(part)
        if answer.ends:
            self.content.feed_eof()

    async def read(self) -> bytes:
        return await self.content.read()

    def close(self) -> None:
        self._feeding.cancel()


class _Client(KubernetesClient):
    def __init__(self, api: ScriptedApi, settings: ClientSettings | None) -> None:
        credentials = Credentials(
            Cluster("http://api"), ClusterUser(), namespace=None, description="scripted", environ={}
        )
        super().__init__(credentials, settings=settings)
        self._api = api

    def _new_session(self, ssl_context: ssl.SSLContext | None) -> aiohttp.ClientSession:
        return cast("aiohttp.ClientSession", self._api)


def scripted_client(api: ScriptedApi, settings: ClientSettings | None = None) -> KubernetesClient:
    """A client of the scripted API server; an async context manager."""
    return _Client(api, settings)
