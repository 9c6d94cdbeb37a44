"""An API server in memory, in place of the HTTP session of the client: Jobs, Pods, Secrets, events, logs.

The client above it is the real one: paths, bodies, status codes and broken connections are what a
server or a network would give it. There is no socket, so that tests can run in virtual time.
"""

import itertools
import json
import ssl
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
from multidict import CIMultiDict

from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import Credentials
from oz_agent_worker.worker.backends.kubernetes.api.identity import Cluster, ClusterUser

__all__ = ["LOST_ANSWER", "NO_ROLES_YET", "REFUSED", "Fault", "MemoryApi", "connected", "refused_connection"]

_REASONS: Final = {403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}


@dataclass(frozen=True)
class Fault:
    """How one request fails: with a status, or without an answer where ``code`` is 0.

    ``done``: the server carries the request out all the same. ``error`` is what the connection gives.
    """

    code: int = 0
    message: str = "no"
    reason: str = ""
    retry_after: str | None = None
    done: bool = False
    error: Callable[[], Exception] = aiohttp.ServerDisconnectedError


def refused_connection() -> Exception:
    """Nothing was sent (aiohttp, ClientConnectorError)."""
    key = aiohttp.client_reqrep.ConnectionKey("api.test", 443, True, True, None, None, None)
    return aiohttp.ClientConnectorError(key, ConnectionRefusedError("refused"))


LOST_ANSWER: Final = Fault(done=True)
REFUSED: Final = Fault(error=refused_connection)
NO_ROLES_YET: Final = Fault(403, 'jobs is forbidden: User "worker" cannot create resource "jobs"')


class _Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def readany(self) -> bytes:
        body, self._body = self._body, b""
        return body


class _Response:
    """What the client uses of ``aiohttp.ClientResponse``."""

    connection = None

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = CIMultiDict(headers)
        self.content = _Content(body)
        self._body = body

    async def read(self) -> bytes:
        return self._body

    def close(self) -> None:
        pass


class MemoryApi:
    """The objects of one namespace, by name, and the requests that came, such as ``POST jobs``.

    ``faults`` holds how the next requests of a kind fail, one after the other. ``on_job_deleted``
    hears of a deletion, as a watch would. ``date`` gives the ``Date`` of an answer, if it has one.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.date: Callable[[], str | None] = lambda: None
        self.secrets: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.logs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.on_job_deleted: Callable[[dict[str, Any]], None] = lambda job: None
        self._uids = itertools.count(1)

    def fail(self, kind: str, fault: Fault, times: int = 1) -> None:
        """Have the next requests of a kind fail."""
        self.faults[kind].extend([fault] * times)

    def add_job(self, manifest: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        """Store a Job, as the API server does."""
        job: dict[str, Any] = json.loads(json.dumps(manifest))
        job["metadata"] |= {"uid": f"uid-{next(self._uids)}", **metadata}
        self.jobs[job["metadata"]["name"]] = job
        return job

    async def request(self, method: str, url: str, **options: Any) -> _Response:
        """Answer one request of the client (``aiohttp.ClientSession.request``)."""
        parts = url.split("/namespaces/agents/")[1].split("/")
        kind = f"{method} {'log' if parts[-1] == 'log' else parts[0]}"
        self.requests.append(kind)
        fault = self.faults[kind].popleft() if self.faults[kind] else None
        body = json.loads(options["data"]) if options.get("data") else {}
        if fault is None or fault.done:
            dry_run = ("dryRun", "All") in (options.get("params") or ())
            response = self._carry_out(kind, parts, body, dry_run=dry_run)
        if fault is None:
            date = self.date()
            response.headers.update({"Date": date} if date else {})
            return response
        if not fault.code:
            raise fault.error()
        return _status(fault.code, fault.message, fault.reason, fault.retry_after)

    def _carry_out(self, kind: str, parts: list[str], body: dict[str, Any], *, dry_run: bool) -> _Response:
        match kind, parts:
            case "POST jobs", _:
                if body["metadata"]["name"] in self.jobs:
                    return _status(409, "the Job exists")
                return _answer(self.add_job(body))
            case "POST secrets", _:
                if body["metadata"]["name"] in self.secrets:
                    return _status(409, "the Secret exists")
                if not dry_run:
                    self.secrets[body["metadata"]["name"]] = body
                return _answer(body)
            case "DELETE jobs", [_, name]:
                return self._delete(name, body.get("preconditions", {}).get("uid"))
        return self._read(kind, parts)

    def _read(self, kind: str, parts: list[str]) -> _Response:
        match kind, parts:
            case "GET jobs", [_, name]:
                return _answer(self.jobs[name]) if name in self.jobs else _status(404, "no such Job")
            case "GET jobs", [_]:
                return _answer({"metadata": {}, "items": list(self.jobs.values())})
            case "GET pods", [_, name]:
                return _answer(self.pods[name]) if name in self.pods else _status(404, "no such Pod")
            case "GET events", _:
                return _answer({"metadata": {}, "items": self.events})
            case "GET log", [_, pod, _]:
                return _Response(200, self.logs[pod], {}) if pod in self.logs else _status(404, "no log")
        raise AssertionError(f"no answer to {kind} {parts}")

    def _delete(self, name: str, uid: str | None) -> _Response:
        if name not in self.jobs:
            return _status(404, "no such Job")
        if uid not in (None, self.jobs[name]["metadata"]["uid"]):
            return _status(409, "another UID", "Conflict")
        self.on_job_deleted(self.jobs.pop(name))
        return _answer({"kind": "Status"})


def _answer(value: Any) -> _Response:
    return _Response(200, json.dumps(value).encode(), {})


def _status(code: int, message: str, reason: str = "", retry_after: str | None = None) -> _Response:
    """Make an error of the API server (meta/v1, Status)."""
    body = {"code": code, "message": message, "reason": reason or _REASONS.get(code, "Unknown")}
    headers = {"Retry-After": retry_after} if retry_after else {}
    return _Response(code, json.dumps(body).encode(), headers)


class _ClientInMemory(KubernetesClient):
    """The client, whose HTTP session is the server itself."""

    def __init__(self, api: MemoryApi, settings: ClientSettings | None) -> None:
        cluster = Cluster("https://api.test")
        super().__init__(
            Credentials(cluster, ClusterUser(), namespace="agents", description="test", environ={}),
            settings=settings,
        )
        self._api = api

    def _new_session(self, ssl_context: ssl.SSLContext | None) -> aiohttp.ClientSession:
        return cast("aiohttp.ClientSession", self._api)


async def connected(api: MemoryApi, settings: ClientSettings | None = None) -> KubernetesClient:
    """Open a client of the API server in memory."""
    client = _ClientInMemory(api, settings)
    await client.open()
    return client
