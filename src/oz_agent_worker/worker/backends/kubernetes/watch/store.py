"""What is known of a watched collection, and what each list and event changes in it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Generic

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api.rest import ObjectT

from .stream import Bookmark, Removed, WatchEvent

__all__ = ["Change", "ReflectorState", "is_newer"]


class Change(msgspec.Struct, Generic[ObjectT], frozen=True):
    """An object came, changed or went; for one that went ``object`` is its last known state."""

    object: ObjectT
    deleted: bool = False


class ReflectorState(Generic[ObjectT]):
    """The objects of one resource type in one namespace, by name, as of ``resource_version``.

    A list is the authority: what it says replaces what was known, and each difference is one
    change. An event of an object that stands counts if it is newer than that object is known,
    whatever came between. One of an unknown object counts only if it is newer than all that came
    before: the server sends a collection's events in the order of their versions, so that else it
    is a repetition, of an object that is long gone.
    """

    def __init__(self) -> None:
        self._objects: dict[str, ObjectT] = {}
        self.resource_version: str | None = None
        """Where the next watch begins; ``None`` before the first list and after ``forget``."""
        self._newest: str | None = None

    @property
    def objects(self) -> Mapping[str, ObjectT]:
        """What stands, by name."""
        return self._objects

    def forget(self) -> None:
        """Have the next step be a list; the objects stay, to be compared with it."""
        self.resource_version = None

    def is_before(self, version: str) -> bool:
        """Whether ``version`` comes before what was told already, also before ``forget``."""
        return version != self._newest and not is_newer(version, self._newest)

    def apply_list(self, items: Iterable[ObjectT], resource_version: str) -> list[Change[ObjectT]]:
        """Take a whole, consistent list; return what it changed, what went first."""
        listed = {item.metadata.name: item for item in items}
        changes: list[Change[ObjectT]] = []
        for name, known in self._objects.items():
            found = listed.get(name)
            if found is None or found.metadata.uid != known.metadata.uid:
                changes.append(Change(known, deleted=True))
        for name, found in listed.items():
            before = self._objects.get(name)
            if before is None or not _same_version(before, found):
                changes.append(Change(found))
            else:
                listed[name] = before  # the old view goes on, and what refers to it shares it
        self._objects = listed
        self.resource_version = self._newest = resource_version
        return changes

    def apply_event(self, event: WatchEvent[ObjectT]) -> tuple[Change[ObjectT], ...]:
        """Take one event; return what it changed, nothing for a bookmark or a repetition.

        A namesake that comes before its predecessor's deletion was told brings that with it.
        """
        if isinstance(event, Bookmark):
            self._advance(event.resource_version)
            return ()
        item = event.object
        version = item.metadata.resource_version or ""
        known = self._objects.get(item.metadata.name)
        advanced = self._advance(version)
        if known is None:
            if not advanced or isinstance(event, Removed):
                return ()
        elif not version or not is_newer(version, known.metadata.resource_version):
            return ()
        if isinstance(event, Removed):
            del self._objects[item.metadata.name]
            return (Change(item, deleted=True),)
        self._objects[item.metadata.name] = item
        if known is not None and known.metadata.uid != item.metadata.uid:
            return Change(known, deleted=True), Change(item)
        return (Change(item),)

    def _advance(self, version: str) -> bool:
        """Move on to ``version``; false, and no move, where it is not newer."""
        if not version or not is_newer(version, self.resource_version):
            return False
        self.resource_version = self._newest = version
        return True


def is_newer(version: str, than: str | None) -> bool:
    """Whether ``version`` comes after ``than`` in the life of one resource type.

    Within a resource type served by kube-apiserver, versions are ordered as positive integers
    of any length without leading zeros (KEP-5504, part of the API since 1.35 and true of every
    release before). Versions of different types, Jobs and Pods, are never compared. Where
    one has another form, which an aggregated API may choose, any difference counts as newer.
    """
    if than is None:
        return True
    if version.isdecimal() and than.isdecimal():
        return (len(version), version) > (len(than), than)
    return version != than


def _same_version(one: ObjectT, other: ObjectT) -> bool:
    a, b = one.metadata, other.metadata
    return a.uid == b.uid and a.resource_version == b.resource_version
