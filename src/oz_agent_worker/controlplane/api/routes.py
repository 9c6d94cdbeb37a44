"""The ASGI application: its routes and their handlers."""

import asyncio
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from oz_agent_worker.controlplane.gateway.services import Services
from oz_agent_worker.controlplane.gateway.worker_socket import WorkerSocket
from oz_agent_worker.controlplane.problems import (
    Code,
    ProblemError,
    on_http_exception,
    on_problem,
    on_unexpected,
    problem_response,
)
from oz_agent_worker.controlplane.store import runs

from .runs import RunsApi, json_response

__all__ = ["WORKER_SOCKET", "build_app"]

#: Path of the WebSocket for workers.
WORKER_SOCKET: Final = "/api/v1/selfhosted/worker/ws"
#: Seconds after which the database counts as unavailable.
_HEALTH_SECONDS: Final = 5.0


async def upgrade_required(_: Request) -> Response:
    """Refuse a plain request to the workers' WebSocket (426, RFC 9110, section 15.5.22)."""
    detail = "Workers connect here, with a WebSocket handshake."
    raise ProblemError(426, Code.INVALID_REQUEST, detail, headers={"Upgrade": "websocket"})


async def no_socket(websocket: WebSocket) -> None:
    """Refuse a WebSocket handshake at another path with 404: a worker would read 403 as a refused key."""
    problem = ProblemError(
        404, Code.RESOURCE_NOT_FOUND, f"There is no WebSocket at {websocket.url.path}: try {WORKER_SOCKET}."
    )
    await websocket.send_denial_response(problem_response(websocket, problem))


def build_app(services: Services, worker_socket: WorkerSocket) -> Starlette:
    """Build the application from its routes."""
    api = RunsApi(services)

    async def livez(_: Request) -> Response:
        """Liveness: answers while the process runs, since a restart does not bring a database back."""
        return json_response({"status": "ok"})

    async def healthz(_: Request) -> Response:
        """Readiness: whether the database answers. It needs no key, and reveals nothing else."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await services.database.read(runs.exists, "")
        except (SQLAlchemyError, TimeoutError) as error:
            raise ProblemError(503, Code.INTERNAL_ERROR, "The database does not answer.", True) from error
        return json_response({"status": "ok"})

    return Starlette(
        routes=[
            Route("/livez", livez, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/api/v1/agent/run", api.create, methods=["POST"]),
            Route("/api/v1/agent/runs", api.collection, methods=["GET", "POST"]),
            Route("/api/v1/agent/runs/{run_id}", api.get, methods=["GET"]),
            Route("/api/v1/agent/runs/{run_id}/cancel", api.cancel, methods=["POST"]),
            Route("/api/v1/agent/runs/{run_id}/logs", api.logs, methods=["GET"]),
            Route(WORKER_SOCKET, upgrade_required, methods=["GET"]),
            WebSocketRoute(WORKER_SOCKET, worker_socket.handle),
            WebSocketRoute("/{path:path}", no_socket),
        ],
        exception_handlers={
            ProblemError: on_problem,
            HTTPException: on_http_exception,
            Exception: on_unexpected,
        },
    )
