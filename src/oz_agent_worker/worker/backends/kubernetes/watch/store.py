"""The objects of a watched collection, and what each list and watch event changes in them. Pure.

A reflector in client-go's sense fills it: ``replace`` takes a list, ``apply`` an event of the watch.
"""

from collections.abc import Iterable, Mapping
from typing import Generic

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api.rest import ObjectT

from .stream import Bookmark, Deleted, WatchEvent

__all__ = ["Change", "Store", "is_newer"]


class Change(msgspec.Struct, Generic[ObjectT], frozen=True):
    """An object was added, updated or deleted; a deleted ``object`` has its last known state."""

    object: ObjectT
    deleted: bool = False


class Store(Generic[ObjectT]):
    """The objects of one resource type in one namespace, by name, as of ``resource_version``.

    A list replaces what was known, and each difference is one change. An event about a known object
    counts if it is newer than that object, even if events between are missing. An event about an
    unknown object counts only if it is newer than everything before: the server sends a collection's
    events in the order of their versions, so an older one repeats the life of a deleted object.
    """

    def __init__(self) -> None:
        self._objects: dict[str, ObjectT] = {}
        self.resource_version: str | None = None
        """Where the next watch begins; ``None`` before the first list and after ``require_relist``."""
        self._newest: str | None = None

    @property
    def objects(self) -> Mapping[str, ObjectT]:
        """The objects that exist, by name."""
        return self._objects

    def require_relist(self) -> None:
        """Have the next step be a list; the objects stay, to be compared with it."""
        self.resource_version = None

    def is_outdated(self, version: str) -> bool:
        """Whether ``version`` is older than the newest one seen, also before ``require_relist``."""
        return version != self._newest and not is_newer(version, self._newest)

    def replace(self, items: Iterable[ObjectT], resource_version: str) -> list[Change[ObjectT]]:
        """Take a whole, consistent list; return its differences, the deletions first."""
        listed = {item.metadata.name: item for item in items}
        changes: list[Change[ObjectT]] = []
        for name, known in self._objects.items():
            found = listed.get(name)
            if found is None or found.metadata.uid != known.metadata.uid:
                changes.append(Change(known, deleted=True))
        for name, found in listed.items():
            before = self._objects.get(name)
            if before is None or _identity(before) != _identity(found):
                changes.append(Change(found))
            else:
                listed[name] = before  # keep the view that others refer to
        self._objects = listed
        self.resource_version = self._newest = resource_version
        return changes

    def apply(self, event: WatchEvent[ObjectT]) -> tuple[Change[ObjectT], ...]:
        """Take one event; return its changes, none for a bookmark or a repetition.

        An event about an object with another UID implies the old object's deletion.
        """
        if isinstance(event, Bookmark):
            self._advance(event.resource_version)
            return ()
        item = event.object
        version = item.metadata.resource_version or ""
        known = self._objects.get(item.metadata.name)
        advanced = self._advance(version)
        if known is None:
            if not advanced or isinstance(event, Deleted):
                return ()
        elif not version or not is_newer(version, known.metadata.resource_version):
            return ()
        if isinstance(event, Deleted):
            del self._objects[item.metadata.name]
            return (Change(item, deleted=True),)
        self._objects[item.metadata.name] = item
        if known is not None and known.metadata.uid != item.metadata.uid:
            return Change(known, deleted=True), Change(item)
        return (Change(item),)

    def _advance(self, version: str) -> bool:
        """Move on to ``version``; return false, and do nothing, where it is not newer."""
        if not version or not is_newer(version, self.resource_version):
            return False
        self.resource_version = self._newest = version
        return True


def is_newer(version: str, than: str | None) -> bool:
    """Whether a resource version is newer than another one of the same resource type.

    kube-apiserver's versions compare as positive integers of any length without leading zeros
    (KEP-5504, part of the API since 1.35 and true of every release before). Versions of different
    types, such as Jobs and Pods, are never compared. An aggregated API may have versions of another
    form: then any difference counts as newer.
    """
    if than is None:
        return True
    if version.isdecimal() and than.isdecimal():
        return (len(version), version) > (len(than), than)
    return version != than


def _identity(item: ObjectT) -> tuple[str | None, str | None]:
    return item.metadata.uid, item.metadata.resource_version
