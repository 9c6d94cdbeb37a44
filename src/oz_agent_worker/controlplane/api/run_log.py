"""The output of a run over HTTP: as text, or live as server-sent events.

The events follow https://html.spec.whatwg.org/multipage/server-sent-events.html. The ID of a
``log`` event is the offset after it, so a stream with that ``Last-Event-ID`` continues there.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.controlplane.auth import authenticate_reader
from oz_agent_worker.controlplane.gateway.services import Services
from oz_agent_worker.controlplane.problems import invalid, not_found, without_nul
from oz_agent_worker.controlplane.rules.run_states import TERMINAL
from oz_agent_worker.controlplane.store import logs, runs
from oz_agent_worker.controlplane.store.database import Database

from .run_item import status_message

__all__ = ["log_response"]

_EVENTS: Final = "text/event-stream"
#: Seconds between two comments on a stream without events: proxies close silent connections.
_KEEP_ALIVE: Final = 15.0
_LARGEST_OFFSET: Final = 2**63 - 1


async def log_response(request: Request, services: Services) -> Response:
    """The whole output; a stream of it with ``follow=1`` or ``Accept: text/event-stream``."""
    run_id, database = request.path_params["run_id"], services.database
    await authenticate_reader(request, database, run_id)
    if await database.read(logs.read_page, without_nul("run_id", run_id), 0) is None:
        raise not_found(run_id)
    headers = {"Cache-Control": "no-store"}
    follow = request.query_params.get("follow", "").lower() in ("1", "true")
    if not follow and _EVENTS not in request.headers.get("accept", ""):
        text = _text(database, run_id)
        return StreamingResponse(text, media_type="text/plain; charset=utf-8", headers=headers)
    headers["X-Accel-Buffering"] = "no"
    events = _events(services, run_id, _last_event_id(request))
    return StreamingResponse(events, media_type=_EVENTS, headers=headers)


async def _text(database: Database, run_id: str) -> AsyncIterator[bytes]:
    offset = 0
    while (page := await database.read(logs.read_page, run_id, offset)) and page.pieces:
        for piece in page.pieces:
            if piece.start > offset:
                yield f"[{piece.start - offset} bytes of output are not kept]\n".encode()
            yield piece.data
            offset = piece.end


async def _events(services: Services, run_id: str, offset: int) -> AsyncIterator[bytes]:
    with services.subscribers.subscribe(run_id) as changed:
        while not services.subscribers.closed:
            page = await services.database.read(logs.read_page, run_id, offset)
            if page is None:
                return
            for piece in page.pieces:
                offset = piece.end
                text = piece.data.decode("utf-8", "replace")
                yield _event("log", {"offset": piece.start, "text": text}, b"id: %d\n" % offset)
            if page.pieces:
                continue
            if page.state in TERMINAL:
                run = await services.database.read(runs.get, run_id)
                assert run is not None  # runs are never deleted
                end = {"run_id": run_id, "state": run.state.value, "status_message": status_message(run)}
                yield _event("end", end)
                return
            if not await wait_for_event(changed, _KEEP_ALIVE):
                yield b": keep-alive\n\n"
            changed.clear()


def _event(kind: str, data: object, event_id: bytes = b"") -> bytes:
    # Encoded JSON has no line breaks, so the data is one line whatever the output is.
    return event_id + b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(data))


def _last_event_id(request: Request) -> int:
    text = request.headers.get("last-event-id", "") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > _LARGEST_OFFSET:
        raise invalid("Last-Event-ID: must be the ID of an event of this stream")
    return int(text)
