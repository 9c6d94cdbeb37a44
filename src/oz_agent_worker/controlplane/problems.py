"""Errors of the HTTP API as problem details (RFC 7807), with the public API's extra members."""

import logging
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

__all__ = [
    "PROBLEM_KINDS",
    "Code",
    "ProblemError",
    "invalid",
    "not_found",
    "on_http_exception",
    "on_problem",
    "on_unexpected",
    "problem_response",
    "without_nul",
]

_log = logging.getLogger(__name__)

_MEDIA_TYPE: Final = "application/problem+json"
#: W3C Trace Context: version, trace ID, parent ID, flags.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Code(StrEnum):
    """Kinds of problems, as the public API names them."""

    INVALID_REQUEST = "invalid_request"
    AUTHENTICATION_REQUIRED = "authentication_required"
    NOT_AUTHORIZED = "not_authorized"
    RESOURCE_NOT_FOUND = "resource_not_found"
    OPERATION_NOT_SUPPORTED = "operation_not_supported"
    CONFLICT = "conflict"
    INTERNAL_ERROR = "internal_error"


#: When which problem is the response, for docs/api.md: status, code, condition.
PROBLEM_KINDS: Final = (
    ("400", Code.INVALID_REQUEST, "the request is not valid; a run that has ended cannot be cancelled"),
    ("401", Code.AUTHENTICATION_REQUIRED, "no key, or a key that is not valid"),
    ("403", Code.NOT_AUTHORIZED, "a workload token, for anything but its own run"),
    ("404", Code.RESOURCE_NOT_FOUND, "no such run, no such path"),
    ("405", Code.OPERATION_NOT_SUPPORTED, "the path does not have this method; `Allow` lists those it has"),
    ("409", Code.CONFLICT, "a run that is `PENDING` at a public worker cannot be cancelled yet"),
    (
        "413",
        Code.INVALID_REQUEST,
        "a body larger than 16 MiB, a prompt too large for an assignment, or MCP servers too large for a"
        " command line (128 KiB)",
    ),
    ("422", Code.OPERATION_NOT_SUPPORTED, "this control plane does not offer what was asked for"),
    (
        "500, 503",
        Code.INTERNAL_ERROR,
        "a defect (see `trace_id` in the log), or the database does not answer",
    ),
)


@dataclass(eq=False)
class ProblemError(Exception):
    """A request that gets an error response; the caller reads ``detail``."""

    status: int
    code: Code
    detail: str
    retryable: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


def invalid(detail: str) -> ProblemError:
    """The problem of a request that is not valid (400)."""
    return ProblemError(400, Code.INVALID_REQUEST, detail)


def without_nul(field: str, text: str) -> str:
    """Return a text that every database can store and compare. Raises ProblemError (400)."""
    if "\0" in text:
        raise invalid(f"{field}: contains a NUL character")
    return text


def not_found(run_id: str) -> ProblemError:
    """The problem of an unknown run ID (404)."""
    return ProblemError(404, Code.RESOURCE_NOT_FOUND, f"There is no run {run_id[:64]}.")


def problem_response(
    connection: HTTPConnection, problem: ProblemError, trace_id: str | None = None
) -> Response:
    """The response of a problem."""
    body: dict[str, Any] = {
        "type": f"urn:oz:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": connection.url.path,
        "error": problem.detail,
        "retryable": problem.retryable,
        "trace_id": trace_id or _trace_id(connection),
    }
    return Response(
        msgspec.json.encode(body), status_code=problem.status, headers=problem.headers, media_type=_MEDIA_TYPE
    )


def _trace_id(connection: HTTPConnection) -> str:
    match = _TRACEPARENT.fullmatch(connection.headers.get("traceparent", ""))
    return match[1] if match else secrets.token_hex(16)


async def on_problem(request: Request, error: Exception) -> Response:
    """Respond to a ProblemError that a handler raised."""
    assert isinstance(error, ProblemError)
    return problem_response(request, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Respond to what the framework refuses, such as unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    known = {
        404: (Code.RESOURCE_NOT_FOUND, f"There is nothing at {request.url.path}."),
        405: (Code.OPERATION_NOT_SUPPORTED, f"{request.method} is not possible at {request.url.path}."),
    }
    code, detail = known.get(error.status_code, (Code.INVALID_REQUEST, error.detail))
    problem = ProblemError(error.status_code, code, detail, headers=dict(error.headers or {}))
    return problem_response(request, problem)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Respond to an unexpected error. The trace ID in the response is also in the log."""
    trace_id = _trace_id(request)
    _log.error(
        "%s %s failed (trace %s): %s", request.method, request.url.path, trace_id, type(error).__name__
    )
    problem = ProblemError(
        500, Code.INTERNAL_ERROR, "The control plane failed; its log has the trace ID.", retryable=True
    )
    return problem_response(request, problem, trace_id)
