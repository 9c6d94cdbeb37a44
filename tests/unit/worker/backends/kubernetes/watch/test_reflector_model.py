"""The reflector's store and the watch's stream against a model of the API server's watch protocol.

The model has versions that other collections share, a history that is compacted at any time,
bookmarks, and lists as of any moment. Its watches are bytes: they come in chunks of any size, are
cut in mid-line, repeat what was sent, and end with 410. Whatever happens, each change is delivered once
and in order, and at each consistent point the changes add up to what the server has.
"""

from typing import Any, NamedTuple

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oz_agent_worker.worker.backends.kubernetes.api.errors import GoneError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, ObjectMeta
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change, Store
from oz_agent_worker.worker.backends.kubernetes.watch.stream import LineSplitter, WatchDecoder

NAMES = st.sampled_from(["a", "b", "ü"])
EVENTS = WatchDecoder(JOBS)
COUNTS = st.integers(min_value=1, max_value=4)


class Item(NamedTuple):
    """All that the reflector needs of an object."""

    name: str
    uid: str
    version: int


class Event(NamedTuple):
    """A change in the server's history."""

    kind: str
    item: Item

    @property
    def delivered(self) -> tuple[Item, bool]:
        """What a subscriber is to hear of it: the object, and whether it is gone."""
        return self.item, self.kind == "DELETED"

    def line(self) -> bytes:
        """The event as a watch sends it."""
        name, uid, version = self.item
        return _line(self.kind, {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}})


class ApiModel:
    """A collection of the API server, with its history and what it was like at each version."""

    def __init__(self) -> None:
        self.version = self.compacted = 8  # soon of two digits: versions are no strings to be sorted
        self.history: list[Event] = []
        self.at: dict[int, dict[str, Item]] = {self.version: {}}

    @property
    def items(self) -> dict[str, Item]:
        """The objects that exist."""
        return self.at[self.version]

    def write(self, name: str) -> None:
        """Create or change an object."""
        known = self.items.get(name)
        uid = known.uid if known else f"uid-{self.version}"
        item = Item(name, uid, self.version + 1)
        self._moves_on({**self.items, name: item}, Event("MODIFIED" if known else "ADDED", item))

    def delete(self, name: str) -> None:
        """Delete an object; the event has the deletion's version."""
        known = self.items[name]
        rest = {other: item for other, item in self.items.items() if other != name}
        self._moves_on(rest, Event("DELETED", known._replace(version=self.version + 1)))

    def elsewhere(self) -> None:
        """Another collection changes."""
        self._moves_on(self.items)

    def _moves_on(self, items: dict[str, Item], *events: Event) -> None:
        self.version += 1
        self.at[self.version] = items
        self.history += events

    def after(self, version: int) -> list[Event]:
        """The events that a watch from ``version`` has to send."""
        return [event for event in self.history if event.item.version > version]


class ReflectorMachine(RuleBasedStateMachine):
    """``position`` is up to where the open watch has sent, ``None`` without a watch.

    ``newest`` is the version up to which the reflector got every change.
    """

    def __init__(self) -> None:
        super().__init__()
        self.server = ApiModel()
        self.store: Store[JobView] = Store()
        self.splitter = LineSplitter()
        self.position: int | None = None
        self.newest = 0
        self.delivered: dict[str, Item] = {}

    # In the cluster ------------------------------------------------------------------------------

    @rule(name=NAMES)
    def somebody_writes(self, name: str) -> None:
        self.server.write(name)

    @rule(name=NAMES)
    def somebody_deletes(self, name: str) -> None:
        if name in self.server.items:
            self.server.delete(name)

    @rule(name=NAMES)
    def recreate_under_the_same_name(self, name: str) -> None:
        self.somebody_deletes(name)
        self.server.write(name)

    @rule()
    def another_collection_changes(self) -> None:
        self.server.elsewhere()

    @rule()
    def the_history_is_compacted(self) -> None:
        self.server.compacted = self.server.version

    # Lists ---------------------------------------------------------------------------------------

    @initialize()
    def the_first_list(self) -> None:
        self.read_list(self.server.version)

    @precondition(lambda self: self.position is None)
    @rule(back=st.integers(min_value=0, max_value=6))
    def a_list_of_the_past_or_present(self, back: int) -> None:
        self.store.require_relist()
        self.read_list(max(self.server.version - back, min(self.server.at)))

    def read_list(self, version: int) -> None:
        """Take a list as of a version, unless it is older than the newest change."""
        assert self.store.is_outdated(str(version)) == (version < self.newest)
        if version < self.newest:
            return
        listed = self.server.at[version]
        before = {(item.name, item.uid) for item in self.delivered.values()}
        after = {(item.name, item.uid) for item in listed.values()}
        views = [_view(item) for item in listed.values()]
        heard = self.hear(self.store.replace(views, str(version)))
        assert {(item.name, item.uid) for item, gone in heard if gone} == before - after
        assert self.delivered == listed
        self.newest = version

    # Watches -------------------------------------------------------------------------------------

    @precondition(lambda self: self.position is None and self.store.resource_version is not None)
    @rule()
    def a_watch_is_opened(self) -> None:
        version = int(self.store.resource_version or 0)
        assert version == self.newest, "it begins where it left off"
        if version < self.server.compacted:
            self.store.require_relist()
        else:
            self.position = version
            self.splitter = LineSplitter()

    @precondition(lambda self: self.position is not None)
    @rule(count=COUNTS, size=st.integers(min_value=1, max_value=200))
    def events_arrive(self, count: int, size: int) -> None:
        """In chunks of ``size`` bytes."""
        events = self.server.after(self.position or 0)[:count]
        data = b"".join(event.line() for event in events)
        assert self.receive(data, size) == [event.delivered for event in events]
        if events:
            self.position = self.newest = events[-1].item.version

    @precondition(lambda self: self.position is not None)
    @rule(count=COUNTS, missing=st.integers(min_value=1, max_value=60))
    def the_watch_is_cut_in_mid_line(self, count: int, missing: int) -> None:
        """Its last line is lost, however much of it had come."""
        events = self.server.after(self.position or 0)[:count]
        if events:
            *whole, _ = events
            data = b"".join(event.line() for event in events)[:-missing]
            assert self.receive(data) == [event.delivered for event in whole]
            self.newest = whole[-1].item.version if whole else self.newest
        self.position = None

    @precondition(lambda self: self.position is not None)
    @rule()
    def the_watch_ends(self) -> None:
        self.position = None

    @precondition(lambda self: self.position is not None)
    @rule()
    def the_watch_ends_with_410(self) -> None:
        self.receive(_line("ERROR", {"kind": "Status", "code": 410, "message": "too old"}))

    @precondition(lambda self: self.position is not None)
    @rule()
    def a_bookmark_arrives(self) -> None:
        self.events_arrive(len(self.server.history), 1000)
        version = {"metadata": {"resourceVersion": str(self.server.version)}}
        assert self.receive(_line("BOOKMARK", version)) == []
        self.position = self.newest = self.server.version

    @precondition(lambda self: self.position is not None)
    @rule(back=COUNTS)
    def events_are_repeated(self, back: int) -> None:
        sent = [event for event in self.server.history if event.item.version <= self.newest]
        assert self.receive(b"".join(event.line() for event in sent[-back:])) == []

    @rule()
    def all_changes_are_delivered(self) -> None:
        """The consistent point: whatever it takes, the reflector is where the server is."""
        if self.position is None:
            if self.store.resource_version is not None:
                self.a_watch_is_opened()
            if self.store.resource_version is None:
                self.read_list(self.server.version)
                self.a_watch_is_opened()
        self.events_arrive(len(self.server.history) or 1, 50)
        assert self.delivered == self.server.items

    def teardown(self) -> None:
        self.all_changes_are_delivered()

    @invariant()
    def delivered_changes_equal_the_store(self) -> None:
        assert self.delivered == {name: _item(view) for name, view in self.store.objects.items()}

    # The subscriber's side -----------------------------------------------------------------------

    def receive(self, data: bytes, size: int = 1000) -> list[tuple[Item, bool]]:
        """Read bytes of the watch as the reflector does; return the changes that it delivered."""
        heard: list[tuple[Item, bool]] = []
        try:
            for start in range(0, len(data), size):
                for line in self.splitter.feed(data[start : start + size]):
                    event = EVENTS.decode(line)
                    assert event is not None
                    heard += self.hear(self.store.apply(event))
        except GoneError:
            self.store.require_relist()
            self.position = None
        return heard

    def hear(self, changes: Any) -> list[tuple[Item, bool]]:
        """Take changes as a subscriber does, and check that each is one."""
        heard: list[tuple[Item, bool]] = []
        change: Change[JobView]
        for change in changes:
            item = _item(change.object)
            known = self.delivered.pop(item.name, None)
            assert known is None or known.uid == item.uid, "the old object's deletion was not delivered"
            if change.deleted:
                assert known is not None, "deleted, and it was never delivered"
            else:
                assert known is None or known.version < item.version, "delivered twice, or out of order"
                self.delivered[item.name] = item
            heard.append((item, change.deleted))
        return heard


def _line(kind: str, content: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, "object": content}) + b"\n"


def _view(item: Item) -> JobView:
    return JobView(metadata=ObjectMeta(name=item.name, uid=item.uid, resource_version=str(item.version)))


def _item(view: JobView) -> Item:
    metadata = view.metadata
    return Item(metadata.name, metadata.uid or "", int(metadata.resource_version or 0))


TestReflector = ReflectorMachine.TestCase
TestReflector.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
