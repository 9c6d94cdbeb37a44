"""An API server that misbehaves on demand: lists, watches, creates and deletes, with faults.

It keeps a history with versions as etcd does, so that a watch resumes where it left off,
and forgets it on demand. Faults are queued for a verb and a resource, and each is used once.
"""

import asyncio
import itertools
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import yaml
from aiohttp import web

from tests.cluster.web_server import end_server

__all__ = ["COMPLETE", "ApiServer", "answers_and_breaks", "breaks", "forbidden", "hangs", "says"]

Object: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fault: TypeAlias = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

COMPLETE: Final = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}

_COLLECTIONS: Final = {
    "events": "/api/v1/namespaces/{ns}/events",
    "jobs": "/apis/batch/v1/namespaces/{ns}/jobs",
    "pods": "/api/v1/namespaces/{ns}/pods",
    "secrets": "/api/v1/namespaces/{ns}/secrets",
}


def says(code: int, reason: str = "", message: str = "as ordered", **headers: str) -> Fault:
    """Answer with a Status."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        return _status(code, reason, message, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def forbidden(verb: str, resource: str) -> Fault:
    """Refuse as the authorizer does."""
    return says(
        403, "Forbidden", f'{resource} is forbidden: User "worker" cannot {verb} resource "{resource}"'
    )


async def hangs(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Do nothing and never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def breaks(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Do nothing and break the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def answers_and_breaks(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Do what is asked, and break the connection in place of the answer."""
    await handler(request)
    return await breaks(request, handler)


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers=headers)


def _selected(items: Iterable[Object], selector: str) -> list[Object]:
    """Those objects whose fields are as the field selector wants them."""
    wanted = [term.split("=") for term in selector.split(",") if term]
    return [item for item in items if all(_field(item, path) == value for path, value in wanted)]


def _field(item: Object, path: str) -> Any:
    return reduce(lambda found, key: found.get(key) or {}, path.split("."), item)


class ApiServer:
    """An async context manager. ``url`` is its address, ``requests`` what came: verb, resource, query.

    ``events_a_watch`` closes each watch after so many events, ``chunk`` cuts its stream into
    pieces of so many bytes, ``deaf`` lets watches hear nothing any more. ``token`` is the one
    that is accepted, ``None`` any. ``stale`` is what lists from the cache show in place of the truth.
    A dry run is accepted whatever its fields, as by a server of the old ``version`` that this one is;
    access reviews are unknown to it.
    """

    def __init__(self, objects: Iterable[tuple[str, Object]] = ()) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: defaultdict[tuple[str, str], deque[Fault]] = defaultdict(deque)
        self.events_a_watch: int | None = None
        self.chunk: int | None = None
        self.deaf = False
        self.token: str | None = None
        self.stale: list[Object] | None = None
        self.page_limit: int | None = None
        self.version = "v1.19.0"
        self._versions = itertools.count(100)
        self._version = 99
        self._compacted = 0
        self._objects: dict[str, dict[str, Object]] = {resource: {} for resource in _COLLECTIONS}
        self._history: dict[str, list[tuple[int, str, Object]]] = {r: [] for r in _COLLECTIONS}
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        for resource, pattern in _COLLECTIONS.items():
            path = pattern.replace("{ns}", "ns")
            app.router.add_get(path, self._guard(resource, self._list_or_watch))
            app.router.add_post(path, self._guard(resource, self._create, "create"))
            app.router.add_get(path + "/{name}", self._guard(resource, self._get, "get"))
            app.router.add_delete(path + "/{name}", self._guard(resource, self._delete, "delete"))
        app.router.add_get("/api/v1/namespaces/ns/pods/{name}/log", self._guard("pods/log", self._log, "get"))
        app.router.add_post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            self._guard("selfsubjectaccessreviews", self._review, "create"),
        )
        app.router.add_get("/version", self._guard("version", self._tell_version, "get"))
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await end_server(self._runner)

    def kubeconfig(self, folder: Path, **user: str) -> Path:
        """Write a kubeconfig that leads here."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": user or {"token": "t"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return path

    def asked(self, verb: str, resource: str) -> int:
        """How many requests came, those that met a fault included."""
        return sum(1 for v, r, _ in self.requests if (v, r) == (verb, resource))

    def asked_from_cache(self) -> int:
        """How many lists were content with the cache."""
        return sum(
            1 for verb, _, query in self.requests if verb == "list" and query.get("resourceVersion") == "0"
        )

    def names(self, resource: str = "jobs") -> list[str]:
        """The objects that exist."""
        return sorted(self._objects[resource])

    def get(self, resource: str, name: str) -> Object:
        """An object that exists."""
        return self._objects[resource][name]

    # What happens in the cluster -----------------------------------------------------------------

    async def put(self, resource: str, name: str, **content: Any) -> Object:
        """Create or change an object, and notify the watches."""
        known = self._objects[resource].get(name)
        base: Object = known or {"metadata": {"name": name, "uid": f"uid-{next(self._versions)}"}}
        metadata = {**base["metadata"], **content.pop("metadata", {})}
        version = next(self._versions)
        stored = {**base, **content, "metadata": {**metadata, "resourceVersion": str(version)}}
        self._objects[resource][name] = stored
        await self._happened(resource, version, "MODIFIED" if known else "ADDED", stored)
        return stored

    async def finish(self, name: str, status: Object | None = None) -> None:
        """A Job ends."""
        await self.put("jobs", name, status=status or COMPLETE)

    async def remove(self, resource: str, name: str) -> None:
        """Delete an object, and notify the watches."""
        gone = self._objects[resource].pop(name)
        version = next(self._versions)
        last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(version)}}
        await self._happened(resource, version, "DELETED", last)

    async def compact(self) -> None:
        """Forget the history: open watches end with 410, and so do those that resume."""
        self._compacted = self._version = next(self._versions)
        async with self._changed:
            self._changed.notify_all()

    async def _happened(self, resource: str, version: int, kind: str, content: Object) -> None:
        self._version = version
        self._history[resource].append((version, kind, content))
        async with self._changed:
            self._changed.notify_all()

    # Requests ------------------------------------------------------------------------------------

    def _guard(
        self,
        resource: str,
        handler: Callable[[web.Request, str], Awaitable[web.StreamResponse]],
        verb: str = "",
    ) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            kind = verb or ("watch" if "watch" in request.query else "list")
            self.requests.append((kind, resource, dict(request.query)))

            async def proceed(request: web.Request) -> web.StreamResponse:
                return await handler(request, resource)

            if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
                return _status(401, "Unauthorized", "Unauthorized")
            faults = self.faults[kind, resource]
            return await (faults.popleft()(request, proceed) if faults else proceed(request))

        return guarded

    async def _list_or_watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request, resource)
        items = list(self._objects[resource].values())
        if request.query.get("resourceVersion") == "0":
            items = items if self.stale is None else self.stale
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        return self._page(request, _selected(items, request.query.get("fieldSelector", "")))

    def _page(self, request: web.Request, items: list[Object]) -> web.Response:
        start, version = 0, self._version
        if token := request.query.get("continue"):
            version, start = map(int, token.split("/"))
            if version < self._compacted:
                return _status(410, "Expired", "the continue token is too old")
        end = start + (self.page_limit or int(request.query.get("limit", "500")))
        metadata = {"resourceVersion": str(version)}
        if end < len(items):
            metadata["continue"] = f"{version}/{end}"
        return web.json_response({"metadata": metadata, "items": items[start:end] or None})

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        if version < self._compacted:
            return _status(410, "Expired", "too old resource version")
        await response.prepare(request)
        sent = 0
        while self.events_a_watch is None or sent < self.events_a_watch:
            async with self._changed:
                await self._changed.wait_for(lambda: not self.deaf and self._news(resource, version))  # noqa: B023
            if version < self._compacted:
                error = {"kind": "Status", "code": 410, "message": "too old resource version"}
                await self._write(response, "ERROR", error)
                break
            for happened, kind, content in self._since(resource, version):
                await self._write(response, kind, content)
                version, sent = happened, sent + 1
                if sent == self.events_a_watch:
                    break
        return response

    def _news(self, resource: str, version: int) -> bool:
        return version < self._compacted or bool(self._since(resource, version))

    def _since(self, resource: str, version: int) -> list[tuple[int, str, Object]]:
        return [entry for entry in self._history[resource] if entry[0] > version]

    async def _write(self, response: web.StreamResponse, kind: str, content: Object) -> None:
        line = json.dumps({"type": kind, "object": content}, ensure_ascii=False).encode() + b"\n"
        size = self.chunk or len(line)
        for start in range(0, len(line), size):
            await response.write(line[start : start + size])

    async def _create(self, request: web.Request, resource: str) -> web.StreamResponse:
        body = await request.json()
        name = body["metadata"]["name"]
        if "dryRun" in request.query:
            return web.json_response(body, status=201)
        if name in self._objects[resource]:
            return _status(409, "AlreadyExists", f'{resource} "{name}" already exists')
        return web.json_response(await self.put(resource, name, **body), status=201)

    async def _get(self, request: web.Request, resource: str) -> web.StreamResponse:
        found = self._objects[resource].get(request.match_info["name"])
        return web.json_response(found) if found else _status(404, "NotFound", "not found")

    async def _delete(self, request: web.Request, resource: str) -> web.StreamResponse:
        name = request.match_info["name"]
        found = self._objects[resource].get(name)
        if found is None:
            return _status(404, "NotFound", "not found")
        wanted = (await request.json()).get("preconditions", {}).get("uid")
        if wanted not in (None, found["metadata"]["uid"]):
            return _status(409, "Conflict", "the UID in the precondition does not match")
        await self.remove(resource, name)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _log(self, request: web.Request, resource: str) -> web.StreamResponse:
        return web.Response(body=b"first line\nlast line\n")

    async def _review(self, request: web.Request, resource: str) -> web.StreamResponse:
        return _status(404, "NotFound", "the server could not find the requested resource")

    async def _tell_version(self, request: web.Request, resource: str) -> web.StreamResponse:
        return web.json_response({"gitVersion": self.version})
