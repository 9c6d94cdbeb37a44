"""How a request to the API server can fail: one tree of errors with ``ApiError`` as its root.

``transient`` says whether the same request may succeed later, ``ambiguous`` whether the server may
have carried it out although it failed. So a request that failed is one of three:

- lost (``ambiguous``): only a read shows what became of it;
- refused for now (``transient`` alone): nothing was done, and the server says why;
- refused for good (neither).

No error contains the body of a request: bodies hold the secrets of tasks.
"""

import re
from typing import Final

import msgspec

from oz_agent_worker.errors import BackendError

__all__ = [
    "AlreadyExistsError",
    "ApiError",
    "ApiStatusError",
    "ConflictError",
    "ForbiddenError",
    "GoneError",
    "InvalidError",
    "LogError",
    "NotFoundError",
    "ServerError",
    "Status",
    "TooLargeError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnreachableError",
    "UntrustedServerError",
    "status_error",
]

#: How much of an API server's message an error keeps, in characters.
MAX_MESSAGE: Final = 1000

#: Answers with 5xx of a server that has not begun to store: admission comes before storage, and etcd
#: refuses these before it proposes them (k8s.io/apiserver, admission/plugin/webhook/errors;
#: go.etcd.io/etcd, api/v3rpc/rpctypes). ``etcdserver: request timed out`` is none of them.
_NOTHING_DONE: Final = re.compile(
    r"failed calling webhook|denied the request|conversion webhook for .* failed"
    r"|etcdserver: (?:mvcc: database space exceeded|too many requests)"
)
#: etcd's refusals of an object that is too large, which come with 500: by the server, and by its client.
_TOO_LARGE: Final = re.compile(r"etcdserver: request is too large|trying to send message larger than max")
#: What becomes of that for a Job: the API server tries again without its managed fields, and refuses the
#: labels that it has set itself the first time (k8s.io/apiserver, endpoints/handlers: CreateResource).
_OWN_LABELS: Final = "spec.template.metadata.labels[controller-uid]: Invalid value"
#: A plugin of an API server that has just started (k8s.io/apiserver, admission.Handler.WaitForReady).
_NOT_READY: Final = "not yet ready to handle request"


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """``details`` of a Status: after how many seconds to try again."""

    retry_after_seconds: int | None = None


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The API server's answer to a request that failed (meta/v1, Status)."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: StatusDetails | None = None


class ApiError(BackendError):
    """A request to the API server failed. ``retry_after`` is the server's, in seconds."""

    transient: bool = False
    ambiguous: bool = False
    retry_after: float | None = None


class UnreachableError(ApiError):
    """There was no answer: the connection, TLS or the credentials failed, or the time was over.

    ``cause`` is what failed, without the server's address.
    """

    transient = True

    def __init__(self, server: str, cause: str, *, ambiguous: bool = False) -> None:
        super().__init__(f"the API server {server} cannot be reached: {cause}")
        self.cause = cause
        self.ambiguous = ambiguous


class UntrustedServerError(UnreachableError):
    """The server's certificate could not be verified; the cause names what it was verified against."""


class ApiStatusError(ApiError):
    """The API server answered with an error.

    ``code`` is the HTTP status, ``reason`` the Status' reason (``AlreadyExists``), ``message`` the
    server's text, cut to ``MAX_MESSAGE``. ``verb`` is RBAC's.
    """

    def __init__(
        self, code: int, reason: str, message: str, *, verb: str, path: str, retry_after: float | None = None
    ) -> None:
        self.code = code
        self.reason = reason
        self.message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
        self.verb = verb
        self.path = path
        self.retry_after = retry_after
        super().__init__(f"{verb} {path}: HTTP {code} {reason}: {self.message}")


class LogError(ApiError):
    """A log cannot be read: it takes too long, or the kubelet's error is in its place (with HTTP 200)."""

    transient = True


class UnauthorizedError(ApiStatusError):
    """401: the credentials are not accepted."""


class ForbiddenError(ApiStatusError):
    """403: authorization, admission or a quota refused the request."""


class NotFoundError(ApiStatusError):
    """404: the object does not exist."""


class ConflictError(ApiStatusError):
    """409: another write came first, or a precondition is not met."""


class AlreadyExistsError(ConflictError):
    """409 with reason AlreadyExists: an object of this name exists."""


class GoneError(ApiStatusError):
    """410: the resource version or the continue token is too old."""


class InvalidError(ApiStatusError):
    """422: the object is not valid."""


class TooManyRequestsError(ApiStatusError):
    """429: API priority and fairness (or a proxy) refused the request for load. Nothing was done."""

    transient = True


class TooLargeError(ApiStatusError):
    """413, or etcd's refusal: the object is larger than the API server or etcd takes."""


class ServerError(ApiStatusError):
    """5xx: the server failed. It may have carried the request out, unless its message shows otherwise."""

    transient = True
    ambiguous = True

    def __init__(
        self, code: int, reason: str, message: str, *, verb: str, path: str, retry_after: float | None = None
    ) -> None:
        super().__init__(code, reason, message, verb=verb, path=path, retry_after=retry_after)
        self.ambiguous = _NOTHING_DONE.search(message) is None


_BY_CODE: Final[dict[int, type[ApiStatusError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: TooLargeError,
    422: InvalidError,
    429: TooManyRequestsError,
}


def status_error(
    code: int, status: Status, *, verb: str, path: str, retry_after: float | None = None
) -> ApiStatusError:
    """Return the error for an HTTP ``code`` and the server's ``status``.

    ``retry_after`` is the header's; without it the one of the Status counts.
    """
    kind = _BY_CODE.get(code, ServerError if code >= 500 else ApiStatusError)
    message = status.message or "no message"
    if kind is ServerError and _TOO_LARGE.search(message):
        kind = TooLargeError
    elif kind is InvalidError and verb == "create" and _OWN_LABELS in message:
        kind, message = (
            TooLargeError,
            "with what the API server adds, it exceeds the limit of etcd's requests",
        )
    if kind is ConflictError and status.reason == "AlreadyExists":
        kind = AlreadyExistsError
    if retry_after is None and status.details and status.details.retry_after_seconds:
        retry_after = float(status.details.retry_after_seconds)
    reason = status.reason or "Unknown"
    error = kind(code, reason, message, verb=verb, path=path, retry_after=retry_after)
    if kind is ConflictError and verb == "create":
        # Two creations updated a ResourceQuota at once: the next attempt decides.
        error.transient = True
    if kind is ForbiddenError and _NOT_READY in error.message:
        error.transient = True
    return error
