"""Requests to the API server and their answers as data: prepare and interpret, without I/O.

Paths and parameters are those of the Kubernetes API reference. Verbs are RBAC's (``create``,
``list``, ``watch``, …), as an operator's Role names them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, ObjectMeta, PodView

from .errors import ApiStatusError, Status, status_error

__all__ = [
    "EVENTS",
    "JOBS",
    "JOB_VERSIONS",
    "PODS",
    "SECRETS",
    "Answer",
    "HasMetadata",
    "ItemList",
    "ListOptions",
    "PartialObject",
    "Request",
    "Resource",
    "create",
    "decode",
    "delete",
    "error_of",
    "get",
    "list_page",
    "read_log",
    "warning_texts",
    "watch",
]


class HasMetadata(Protocol):
    """An object of the API."""

    @property
    def metadata(self) -> ObjectMeta:
        """Name, versions and labels."""
        ...


T = TypeVar("T")
ObjectT = TypeVar("ObjectT", bound=HasMetadata)


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """``metadata`` of a list (meta/v1, ListMeta): its version, and where the next page begins."""

    resource_version: str | None = None
    continue_token: str | None = msgspec.field(name="continue", default=None)


class ItemList(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list; ``items`` is ``null`` where Go has a nil slice."""

    metadata: ListMeta = ListMeta()
    items: tuple[T, ...] | None = None


class PartialObject(msgspec.Struct, frozen=True):
    """An object of which the server sends only the metadata (meta/v1, PartialObjectMetadata)."""

    metadata: ObjectMeta = ObjectMeta()


@dataclass(frozen=True, slots=True)
class Resource(Generic[ObjectT]):
    """A resource of the API: its group and version, its plural name, and how it is decoded."""

    api: str
    plural: str
    decoder: msgspec.json.Decoder[ObjectT]
    list_decoder: msgspec.json.Decoder[ItemList[ObjectT]]
    accept: str = "application/json"

    def path(self, namespace: str, *parts: str) -> str:
        """The path of the collection in ``namespace``, or of the object that ``parts`` name in it."""
        return "/".join(
            [self.api, "namespaces", *(quote(p, safe="") for p in (namespace, self.plural, *parts))]
        )


JOBS: Final = Resource(
    "/apis/batch/v1",
    "jobs",
    msgspec.json.Decoder(JobView),
    msgspec.json.Decoder(ItemList[JobView]),
)
PODS: Final = Resource(
    "/api/v1",
    "pods",
    msgspec.json.Decoder(PodView),
    msgspec.json.Decoder(ItemList[PodView]),
)
EVENTS: Final = Resource(
    "/api/v1",
    "events",
    msgspec.json.Decoder(EventView),
    msgspec.json.Decoder(ItemList[EventView]),
)
#: Jobs without spec and status: enough to compare versions, at a fraction of the bytes.
JOB_VERSIONS: Final = Resource(
    "/apis/batch/v1",
    "jobs",
    msgspec.json.Decoder(PartialObject),
    msgspec.json.Decoder(ItemList[PartialObject]),
    accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
)

#: Secrets are created and never read, so the answer is limited to the metadata.
SECRETS: Final = Resource(
    "/api/v1",
    "secrets",
    msgspec.json.Decoder(PartialObject),
    msgspec.json.Decoder(ItemList[PartialObject]),
    accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
)

_WARNING: Final = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)".*')


@dataclass(frozen=True, slots=True)
class Request:
    """A request, ready to send. The body holds secrets and is never printed."""

    verb: str
    resource: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)
    accept: str = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its body, the texts of its ``Warning`` headers, and its ``Date`` header."""

    body: bytes
    warnings: tuple[str, ...] = ()
    date: str | None = None


def create(
    resource: Resource[Any], namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False
) -> Request:
    """Create an object from its manifest.

    With ``dry_run`` the server checks everything, admission included, refuses unknown fields, and
    stores nothing (Kubernetes API concepts: dry-run, field validation).
    """
    body = msgspec.json.encode(manifest)
    query = _query(dryRun="All", fieldValidation="Strict") if dry_run else ()
    path = resource.path(namespace)
    return Request("create", resource.plural, "POST", path, query, body, resource.accept)


def get(resource: Resource[Any], namespace: str, name: str) -> Request:
    """Read one object."""
    return Request("get", resource.plural, "GET", resource.path(namespace, name))


def delete(
    resource: Resource[Any], namespace: str, name: str, *, uid: str | None, propagation: str
) -> Request:
    """Delete an object; with ``uid`` only if it has that UID.

    ``propagation`` is a deletion propagation policy, such as ``Background``.
    """
    options: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": propagation,
    }
    if uid is not None:
        options["preconditions"] = {"uid": uid}
    path = resource.path(namespace, name)
    return Request("delete", resource.plural, "DELETE", path, body=msgspec.json.encode(options))


class ListOptions(TypedDict, total=False):
    """What a list contains (meta/v1, ListOptions); what is left out or ``None`` has no effect.

    Without ``resource_version`` the list is consistent; with ``"0"`` it comes from the server's
    cache, of any age. A continue token names its version itself.
    """

    label_selector: str | None
    field_selector: str | None
    limit: int | None
    continue_token: str | None
    resource_version: str | None


def list_page(resource: Resource[Any], namespace: str, **options: Unpack[ListOptions]) -> Request:
    """Read a page of a list."""
    limit = options.get("limit")
    query = _query(
        labelSelector=options.get("label_selector"),
        fieldSelector=options.get("field_selector"),
        limit=None if limit is None else str(limit),
        resourceVersion=options.get("resource_version"),
        **{"continue": options.get("continue_token")},
    )
    path = resource.path(namespace)
    return Request("list", resource.plural, "GET", path, query, accept=resource.accept)


def watch(
    resource: Resource[Any],
    namespace: str,
    *,
    label_selector: str,
    resource_version: str,
    timeout_seconds: int,
) -> Request:
    """Watch the changes after ``resource_version``; the server ends the watch after ``timeout_seconds``."""
    query = _query(
        watch="true",
        allowWatchBookmarks="true",
        labelSelector=label_selector,
        resourceVersion=resource_version,
        timeoutSeconds=str(timeout_seconds),
    )
    return Request("watch", resource.plural, "GET", resource.path(namespace), query)


def read_log(
    namespace: str,
    pod: str,
    container: str,
    *,
    follow: bool = False,
    timestamps: bool = False,
    since: str | None = None,
    limit_bytes: int | None = None,
    tail_lines: int | None = None,
) -> Request:
    """Read a container's log from its beginning, or from ``since`` (RFC 3339) on.

    ``limit_bytes``, timestamps included, cuts it at its end; ``tail_lines`` keeps its last lines. With
    ``follow`` the answer continues until the container ends.
    """
    query = _query(
        container=container,
        follow="true" if follow else None,
        timestamps="true" if timestamps else None,
        sinceTime=since,
        limitBytes=None if limit_bytes is None else str(limit_bytes),
        tailLines=None if tail_lines is None else str(tail_lines),
    )
    return Request("get", "pods/log", "GET", PODS.path(namespace, pod, "log"), query, accept="*/*")


def _query(**parameters: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in parameters.items() if value is not None)


def error_of(request: Request, code: int, body: bytes, retry_after: str | None = None) -> ApiStatusError:
    """Return the error for an answer that is not successful.

    ``retry_after`` is its header (RFC 9110, 10.2.3); of the two forms the API server sends seconds.
    """
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Something else answered, such as a proxy: the beginning of its page is the message.
        status = Status(message=" ".join(body[:300].decode(errors="replace").split()))
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    return status_error(code, status, verb=request.verb, path=request.path, retry_after=seconds)


def warning_texts(headers: Iterable[str]) -> tuple[str, ...]:
    """Read ``Warning`` headers as the API server writes them: ``299 - "text"`` (RFC 7234, 5.5)."""
    found = (_WARNING.fullmatch(header.strip()) for header in headers)
    return tuple(re.sub(r"\\(.)", r"\1", match[1]) for match in found if match)


def decode(request: Request, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode the body of a successful answer.

    Raises:
        ApiStatusError: it is no object of the expected form, so something else answered.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiStatusError(
            200,
            "Undecodable",
            f"the answer is no Kubernetes object: {error}",
            verb=request.verb,
            path=request.path,
        ) from error
