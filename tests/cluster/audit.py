"""The API server's audit log: what was asked of it, by whom, and what it answered."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = ["POLICY", "AuditEntry", "AuditLog"]

# The harness's own controllers are no part of any test, and would be most of the log.
POLICY: Final[Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:kube-controller-manager", "system:apiserver"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
        {"level": "Metadata"},
    ],
}


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    ``code`` is the HTTP status. ``stage`` is ``ResponseComplete``, or ``ResponseStarted``
    for a watch or a followed log that is still open. ``received`` is the time of the
    request as the server writes it, RFC 3339 with microseconds, so that it sorts.
    """

    id: str
    verb: str
    user: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    request_uri: str
    stage: str
    user_agent: str
    received: str


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _Reference(msgspec.Struct, frozen=True):
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class _Status(msgspec.Struct, frozen=True):
    code: int = 0


class _Event(msgspec.Struct):
    """The fields of an ``audit.k8s.io/v1`` Event that are read."""

    auditID: str  # noqa: N815
    stage: str
    requestURI: str  # noqa: N815
    verb: str
    user: _User
    requestReceivedTimestamp: str  # noqa: N815
    userAgent: str = ""  # noqa: N815
    objectRef: _Reference = _Reference()  # noqa: N815
    responseStatus: _Status = _Status()  # noqa: N815


_decoder: Final = msgspec.json.Decoder(_Event)


class AuditLog:
    """Reads a growing log file, each line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._entries: dict[str, AuditEntry] = {}

    def refresh(self) -> list[AuditEntry]:
        """Read and return what was written since the last call; a line without its end waits for the next."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as log:
            log.seek(self._offset)
            text = log.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        fresh = list(decode(complete.splitlines()))
        # A long request is written when it starts and when it ends: the later one counts.
        self._entries.update((entry.id, entry) for entry in fresh)
        return fresh

    def entries(self) -> Iterator[AuditEntry]:
        """Return the requests read so far, one entry each, in the order in which they were first logged."""
        return iter(self._entries.values())


def decode(lines: Iterable[bytes]) -> Iterator[AuditEntry]:
    """Decode audit events, one JSON object a line."""
    for line in lines:
        event = _decoder.decode(line)
        yield AuditEntry(
            id=event.auditID,
            verb=event.verb,
            user=event.user.username,
            resource=event.objectRef.resource,
            subresource=event.objectRef.subresource,
            namespace=event.objectRef.namespace,
            name=event.objectRef.name,
            code=event.responseStatus.code,
            request_uri=event.requestURI,
            stage=event.stage,
            user_agent=event.userAgent,
            received=event.requestReceivedTimestamp,
        )
