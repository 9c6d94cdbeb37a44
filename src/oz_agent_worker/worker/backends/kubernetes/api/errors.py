"""How a request to the API server can fail: one tree of errors with ``ApiError`` as its root.

``transient`` says whether the same request may succeed later, ``ambiguous`` whether the server may
have carried it out although it failed. No error contains the body of a request: bodies hold the
secrets of tasks.
"""

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
    "NotFoundError",
    "ServerError",
    "Status",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnreachableError",
    "UntrustedServerError",
    "status_error",
]

#: How much of an API server's message an error keeps, in characters.
MAX_MESSAGE: Final = 1000


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


class ServerError(ApiStatusError):
    """5xx: the server failed; it may have carried the request out."""

    transient = True
    ambiguous = True


_BY_CODE: Final[dict[int, type[ApiStatusError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
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
    if kind is ConflictError and status.reason == "AlreadyExists":
        kind = AlreadyExistsError
    if retry_after is None and status.details and status.details.retry_after_seconds:
        retry_after = float(status.details.retry_after_seconds)
    reason = status.reason or "Unknown"
    error = kind(code, reason, status.message or "no message", verb=verb, path=path, retry_after=retry_after)
    if kind is ConflictError and verb == "create":
        # Two creations updated a ResourceQuota at once: the next attempt decides.
        error.transient = True
    return error
