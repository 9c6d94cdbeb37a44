import logging
from typing import Any

import msgspec
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from oz_agent_worker.controlplane.problems import (
    Code,
    ProblemError,
    on_http_exception,
    on_unexpected,
    problem_response,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"


def a_request(traceparent: str = "", method: str = "GET") -> Request:
    return Request(
        {
            "type": "http",
            "method": method,
            "path": "/api/v1/x",
            "query_string": b"secret=1",
            "headers": [(b"host", b"h"), (b"traceparent", traceparent.encode())],
            "server": ("h", 80),
            "scheme": "http",
        }
    )


def body_of(response: Response) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(bytes(response.body))
    return body


def test_a_whole_problem() -> None:
    problem = ProblemError(409, Code.CONFLICT, "Later.", retryable=True)
    response = problem_response(a_request(f"00-{TRACE}-b7ad6b7169203331-01"), problem)
    assert (response.status_code, response.media_type) == (409, "application/problem+json")
    assert body_of(response) == {
        "type": "urn:oz:problem:conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "Later.",
        "instance": "/api/v1/x",
        "error": "Later.",
        "retryable": True,
        "trace_id": TRACE,
    }


def test_a_trace_id_is_made_where_none_came() -> None:
    problem = ProblemError(400, Code.INVALID_REQUEST, "x")
    ids = [body_of(problem_response(a_request("nonsense"), problem))["trace_id"] for _ in range(2)]
    assert all(len(i) == 32 for i in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [
        (404, "resource_not_found", "There is nothing at /api/v1/x."),
        (405, "operation_not_supported", "PATCH is not possible at /api/v1/x."),
        (418, "invalid_request", "teapot"),
    ],
)
async def test_what_the_framework_refuses(status: int, code: str, detail: str) -> None:
    error = HTTPException(status, "teapot", headers={"Allow": "GET"})
    response = await on_http_exception(a_request(method="PATCH"), error)
    body = body_of(response)
    assert (response.status_code, body["type"], body["detail"]) == (status, f"urn:oz:problem:{code}", detail)
    assert response.headers["allow"] == "GET"


async def test_a_defect_is_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = await on_unexpected(a_request(), RuntimeError("ozk_secret"))
    body = body_of(response)
    assert (body["status"], body["retryable"]) == (500, True)
    assert body["trace_id"] in caplog.text
    assert "ozk_secret" not in caplog.text + str(body)
