import json

import pytest

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    AlreadyExistsError,
    ApiStatusError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
)

MANIFEST = {"metadata": {"name": "j"}, "spec": {"env": "swordfish"}}


def status(reason: str = "", message: str = "no", details: dict[str, int] | None = None) -> bytes:
    return json.dumps(
        {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}
    ).encode()


def test_create_posts_the_manifest_to_the_collection() -> None:
    request = rest.create(rest.JOBS, "ns", MANIFEST)
    assert (request.verb, request.method, request.path) == (
        "create",
        "POST",
        "/apis/batch/v1/namespaces/ns/jobs",
    )
    assert json.loads(request.body or b"") == MANIFEST


def test_a_dry_run_is_strict_about_fields() -> None:
    request = rest.create(rest.JOBS, "agents", {"metadata": {"name": "j"}}, dry_run=True)
    assert request.query == (("dryRun", "All"), ("fieldValidation", "Strict"))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (r'299 - "unknown field \"spec.x\""', 'unknown field "spec.x"'),
        ('299 - "deprecated" "Sat, 31 Jan 2026 12:00:00 GMT"', "deprecated"),
        (r'299 - "a \\ b"', "a \\ b"),
    ],
)
def test_warnings_are_read_as_the_server_meant_them(header: str, text: str) -> None:
    assert rest.warning_texts([header, "not a warning"]) == (text,)


def test_a_request_does_not_print_its_body() -> None:
    assert "swordfish" not in repr(rest.create(rest.JOBS, "ns", MANIFEST))


def test_delete_names_the_propagation_and_the_identity() -> None:
    request = rest.delete(rest.JOBS, "ns", "j", uid="u-1", propagation="Background")
    assert (request.method, request.path) == ("DELETE", "/apis/batch/v1/namespaces/ns/jobs/j")
    assert json.loads(request.body or b"") == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": "u-1"},
    }


def test_a_watch_asks_for_bookmarks_from_its_version_on() -> None:
    request = rest.watch(rest.PODS, "ns", label_selector="a=b", resource_version="7", timeout_seconds=290)
    assert request.path == "/api/v1/namespaces/ns/pods"
    assert dict(request.query) == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "labelSelector": "a=b",
        "resourceVersion": "7",
        "timeoutSeconds": "290",
    }


def test_a_list_leaves_out_what_is_not_given() -> None:
    assert rest.list_page(rest.JOBS, "ns").query == ()
    page = rest.list_page(rest.JOBS, "ns", limit=500, continue_token="t", label_selector="a=b")
    assert dict(page.query) == {"labelSelector": "a=b", "limit": "500", "continue": "t"}


def test_versions_are_asked_for_without_the_objects() -> None:
    request = rest.list_page(rest.JOB_VERSIONS, "ns", resource_version="0")
    assert "PartialObjectMetadataList" in request.accept
    assert dict(request.query) == {"resourceVersion": "0"}


def test_names_cannot_leave_their_place_in_the_path() -> None:
    assert rest.get(rest.JOBS, "ns", "../a?b").path == "/apis/batch/v1/namespaces/ns/jobs/..%2Fa%3Fb"


@pytest.mark.parametrize(
    ("code", "reason", "kind", "transient", "ambiguous"),
    [
        (400, "BadRequest", ApiStatusError, False, False),
        (401, "Unauthorized", UnauthorizedError, False, False),
        (403, "Forbidden", ForbiddenError, False, False),
        (404, "NotFound", NotFoundError, False, False),
        (409, "AlreadyExists", AlreadyExistsError, False, False),
        (409, "Conflict", ConflictError, True, False),
        (410, "Expired", GoneError, False, False),
        (422, "Invalid", InvalidError, False, False),
        (429, "TooManyRequests", TooManyRequestsError, True, False),
        (500, "InternalError", ServerError, True, True),
        (504, "Timeout", ServerError, True, True),
    ],
)
def test_an_error_has_the_class_of_its_status(
    code: int, reason: str, kind: type[ApiStatusError], transient: bool, ambiguous: bool
) -> None:
    request = rest.create(rest.JOBS, "ns", MANIFEST)
    error = rest.error_of(request, code, status(reason, "the server's words"))
    assert type(error) is kind
    assert (error.code, error.reason, error.message) == (code, reason, "the server's words")
    assert (error.transient, error.ambiguous) == (transient, ambiguous)
    assert str(error) == f"create {request.path}: HTTP {code} {reason}: the server's words"


def test_a_precondition_that_does_not_hold_will_not_hold_later() -> None:
    request = rest.delete(rest.JOBS, "ns", "j", uid="u", propagation="Background")
    assert not rest.error_of(request, 409, status("Conflict")).transient


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [("7", {"retryAfterSeconds": 3}, 7.0), (None, {"retryAfterSeconds": 3}, 3.0), ("soon", {}, None)],
)
def test_retry_after_is_the_headers_else_the_statuss(
    header: str | None, details: dict[str, int], seconds: float | None
) -> None:
    error = rest.error_of(rest.list_page(rest.JOBS, "ns"), 429, status(details=details), header)
    assert error.retry_after == seconds


def test_a_proxys_page_is_shortened() -> None:
    page = b"<html>\n <b>Bad \xff Gateway</b>" + b"x" * 10_000
    error = rest.error_of(rest.list_page(rest.JOBS, "ns"), 502, page)
    assert error.message.startswith("<html> <b>Bad")
    assert len(str(error)) < 500


def test_a_long_message_is_cut() -> None:
    error = rest.error_of(rest.get(rest.JOBS, "ns", "j"), 422, status(message="x" * 100_000))
    assert len(error.message) == 1000


def test_an_answer_that_is_no_object_is_an_error_of_its_own() -> None:
    request = rest.get(rest.JOBS, "ns", "j")
    for body in (b"<html>", b'{"metadata": "text"}', b"\xff"):
        with pytest.raises(ApiStatusError, match="no Kubernetes object"):
            rest.decode(request, body, rest.JOBS.decoder)


def test_a_list_without_items_is_empty() -> None:
    request = rest.list_page(rest.JOBS, "ns")
    body = b'{"metadata":{"resourceVersion":"5","continue":"t"},"items":null}'
    page = rest.decode(request, body, rest.JOBS.list_decoder)
    assert (page.items, page.metadata.resource_version, page.metadata.continue_token) == (None, "5", "t")


def test_a_log_is_read_whole_or_bounded_at_either_end() -> None:
    path = "/api/v1/namespaces/ns/pods/p/log"
    whole = rest.read_log("ns", "p", "task")
    assert (whole.path, whole.query, whole.accept) == (path, (("container", "task"),), "*/*")
    beginning = rest.read_log("ns", "p", "task", timestamps=True, limit_bytes=10)
    assert dict(beginning.query) == {"container": "task", "timestamps": "true", "limitBytes": "10"}
    end = rest.read_log("ns", "p", "task", since="2026-01-01T00:00:00Z", tail_lines=64)
    assert dict(end.query) == {
        "container": "task",
        "sinceTime": "2026-01-01T00:00:00Z",
        "tailLines": "64",
    }
