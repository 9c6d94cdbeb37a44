"""The public Oz Agent API: runs."""

import logging
import uuid
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from oz_agent_worker.controlplane.auth import ApiUser, authenticate_reader, authenticate_user
from oz_agent_worker.controlplane.gateway.services import Services
from oz_agent_worker.controlplane.problems import Code, ProblemError, invalid, not_found, without_nul
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState
from oz_agent_worker.controlplane.store import reports, runs
from oz_agent_worker.controlplane.store.cursor import CursorError, encode_cursor
from oz_agent_worker.controlplane.store.run_list import list_runs
from oz_agent_worker.controlplane.store.runs import NewRun
from oz_agent_worker.controlplane.times import micros

from .list_request import parse_run_query
from .run_item import run_item
from .run_log import log_response
from .run_request import RunConfig, RunRequest, decode_run_request

__all__ = ["LARGEST_BODY", "RunsApi", "json_response"]

_log = logging.getLogger(__name__)

#: Largest request body, in bytes (16 MiB).
LARGEST_BODY: Final = 16 * 1024 * 1024
#: Header that names the program that sends a request; the command line sends ``CLI``.
_SOURCE_HEADER: Final = "x-oz-source"
_SOURCES: Final = frozenset({"API", "CLI"})


def json_response(value: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


class RunsApi:
    """Handlers of ``/api/v1/agent/runs``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._database = services.database

    async def collection(self, request: Request) -> Response:
        """Create a run (POST), or list runs (GET)."""
        return await (self.create(request) if request.method == "POST" else self.list(request))

    async def create(self, request: Request) -> Response:
        """Put a run into the queue."""
        user = await authenticate_user(request, self._database)
        asked = decode_run_request(await _body(request))
        new = _new_run(asked, user, request.headers.get(_SOURCE_HEADER, "API").upper())
        parent = new.parent_run_id
        if parent == "":
            raise invalid("parent_run_id: is empty")
        if parent and not await self._database.read(runs.exists, parent):
            raise invalid(f"parent_run_id: there is no run {parent[:64]}")
        await self._database.write(runs.create, new, asked.metadata or {}, self._services.clock())
        self._services.wake()
        target = f"worker {new.worker_host}" if new.worker_host else "any worker"
        _log.info("run %s queued for %s", new.id, target)
        snapshots = self._services.connections.snapshots(self._services.clock())
        room = any(s.free != 0 and new.worker_host in (None, s.peer.worker_id) for s in snapshots)
        created = {"run_id": new.id, "task_id": new.id, "state": RunState.QUEUED.value}
        return json_response(created | {"at_capacity": not room})

    async def list(self, request: Request) -> Response:
        """A page of runs."""
        await authenticate_user(request, self._database)
        try:
            page = await self._database.read(list_runs, parse_run_query(request.query_params))
        except CursorError as error:
            raise invalid(f"cursor: {error}") from error
        following = {"next_cursor": encode_cursor(page.next)} if page.next else {}
        return json_response(
            {
                "runs": [run_item(run, page.metadata.get(run.id, {})) for run in page.runs],
                "page_info": {"has_next_page": page.next is not None, **following},
            }
        )

    async def get(self, request: Request) -> Response:
        """One run, with its whole prompt."""
        run_id = request.path_params["run_id"]
        await authenticate_reader(request, self._database, run_id)
        run = await self._database.read(runs.get, without_nul("run_id", run_id))
        if run is None:
            raise not_found(run_id)
        metadata = await self._database.read(runs.metadata_of, [run_id])
        return json_response(run_item(run, metadata.get(run_id, {})))

    async def logs(self, request: Request) -> Response:
        """The output of a run."""
        return await log_response(request, self._services)

    async def cancel(self, request: Request) -> Response:
        """Cancel a run, or ask its worker to stop it."""
        user = await authenticate_user(request, self._database)
        run_id = without_nul("run_id", request.path_params["run_id"])
        now = self._services.clock()
        lease_until = now + micros(self._services.settings.worker_grace)
        run = await self._database.write(reports.cancel, run_id, now, lease_until, user.name)
        if run is None:
            raise not_found(run_id)
        if run.state in TERMINAL:
            raise invalid("The run has ended.")
        if run.state is RunState.PENDING and not reports.is_cancellable(run):
            detail = "The run was sent to a worker: try again until the worker answers or the lease ends."
            raise ProblemError(409, Code.CONFLICT, detail, retryable=True)
        if run.state is RunState.QUEUED:
            _log.info("run %s cancelled in the queue", run_id)
        else:
            sent = self._services.connections.cancel(run.ref, run.worker_id)
            self._services.wake()  # a lease may have begun
            _log.info("run %s: cancellation %s", run_id, "sent" if sent else "waits for its worker")
        self._services.subscribers.notify(run_id)
        return json_response(run_id)


def _new_run(asked: RunRequest, user: ApiUser, source: str) -> NewRun:
    config = asked.config
    if config is not None or asked.skill_spec:
        # A skill that is given next to the configuration counts as a part of it.
        config = msgspec.structs.replace(config or RunConfig(), skill_spec=asked.skill_spec)
    return NewRun(
        id=str(uuid.uuid4()),
        execution_id=str(uuid.uuid4()),
        title=asked.shown_title,
        prompt=asked.prompt or "",
        source=source if source in _SOURCES else "API",
        creator_id=user.key_id,
        parent_run_id=asked.parent_run_id,
        conversation_id=asked.conversation_id,
        config=msgspec.json.encode(config).decode() if config is not None else None,
        worker_host=asked.worker_host,
        name=config.name if config else None,
        model_id=config.model_id if config else None,
        environment_id=config.environment_id if config else None,
        skill_spec=asked.skill_spec,
        safe_to_retry=bool(asked.safe_to_retry),
    )


async def _body(request: Request) -> bytes:
    """Read a body up to the limit. Raises ProblemError (413)."""
    too_large = ProblemError(413, Code.INVALID_REQUEST, f"The body is larger than {LARGEST_BODY} bytes.")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length) > LARGEST_BODY:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise too_large
    return bytes(body)
