"""The ASGI application: which handler stands where."""

import asyncio
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from .api import RunsApi, json_response
from .log_stream import LogsApi
from .problems import Code, ProblemError, on_http_exception, on_problem, on_unexpected
from .services import Services
from .store import runs
from .worker_socket import WorkerSocket

__all__ = ["build_app"]

#: A database that takes longer does not answer.
_HEALTH_SECONDS: Final = 5.0


def build_app(services: Services) -> Starlette:
    """Assemble the application."""
    api = RunsApi(services)
    logs = LogsApi(services)
    socket = WorkerSocket(services)

    async def healthz(_: Request) -> Response:
        """No key is asked for: whoever probes learns no more than whether runs can be taken."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await services.database.read(runs.exists, "")
        except (SQLAlchemyError, TimeoutError) as error:
            raise ProblemError(503, Code.INTERNAL_ERROR, "The database does not answer.", True) from error
        return json_response({"status": "ok"})

    return Starlette(
        routes=[
            Route("/healthz", healthz, methods=["GET"]),
            Route("/api/v1/agent/run", api.create, methods=["POST"]),
            Route("/api/v1/agent/runs", api.collection, methods=["GET", "POST"]),
            Route("/api/v1/agent/runs/{run_id}", api.get, methods=["GET"]),
            Route("/api/v1/agent/runs/{run_id}/cancel", api.cancel, methods=["POST"]),
            Route("/api/v1/agent/runs/{run_id}/logs", logs.get, methods=["GET"]),
            WebSocketRoute("/api/v1/selfhosted/worker/ws", socket.handle),
        ],
        exception_handlers={
            ProblemError: on_problem,
            HTTPException: on_http_exception,
            Exception: on_unexpected,
        },
    )
