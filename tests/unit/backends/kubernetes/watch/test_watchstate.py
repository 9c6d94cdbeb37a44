"""The reflector's state against a small model of a watch server.

The model keeps a history of events with growing versions, as etcd does; it forgets the
beginning of it at any time (compaction), loses connections at any point and repeats
events. Whatever happens, what the state told must add up to what the server has.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oz_agent_worker.backends.kubernetes.views import JobView, ObjectMeta
from oz_agent_worker.backends.kubernetes.watch.watchstate import Change, ReflectorState, is_newer
from oz_agent_worker.backends.kubernetes.watch.watchstream import Bookmark, Removed, Upserted, WatchEvent

NAMES = st.sampled_from(["a", "b", "c"])


def job(name: str, version: int | str, uid: str = "u") -> JobView:
    return JobView(metadata=ObjectMeta(name=name, uid=uid, resource_version=str(version)))


class WatchServer:
    """A collection with its history. Versions have gaps: other collections share the counter."""

    def __init__(self) -> None:
        self.version = 8  # soon of two digits: versions are no strings to be sorted
        self.objects: dict[str, JobView] = {}
        self.history: list[tuple[int, WatchEvent[JobView]]] = []
        self.forgotten = self.version

    def write(self, name: str) -> None:
        self.version += 2
        known = self.objects.get(name)
        uid = (known.metadata.uid if known else None) or f"uid-{self.version}"
        self.objects[name] = job(name, self.version, uid)
        self.history.append((self.version, Upserted(self.objects[name])))

    def delete(self, name: str) -> None:
        known = self.objects.pop(name, None)
        if known is not None:
            self.version += 2
            gone = job(name, self.version, known.metadata.uid or "")
            self.history.append((self.version, Removed(gone)))

    def since(self, version: int) -> list[tuple[int, WatchEvent[JobView]]] | None:
        """The events after ``version``; ``None`` for 410 Gone."""
        if version < self.forgotten:
            return None
        return [entry for entry in self.history if entry[0] > version]


class ReflectorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.server = WatchServer()
        self.state: ReflectorState[JobView] = ReflectorState()
        self.told: dict[str, JobView] = {}
        self.told_versions: set[tuple[str | None, str | None]] = set()
        self.position = 0
        self.list()

    def hear(self, change: Change[JobView] | None) -> None:
        """Take a change as a subscriber does, and check that it is one."""
        if change is None:
            return
        metadata = change.object.metadata
        known = self.told.get(metadata.name)
        if change.deleted:
            assert known is not None, "deleted, and it was never told of"
            assert known.metadata.uid == metadata.uid
            del self.told[metadata.name]
            return
        assert known is None or known.metadata.uid == metadata.uid, "replaced without a word of the deletion"
        version = (metadata.uid, metadata.resource_version)
        assert version not in self.told_versions, "told twice"
        self.told_versions.add(version)
        self.told[metadata.name] = change.object

    def list(self) -> None:
        for change in self.state.apply_list(self.server.objects.values(), str(self.server.version)):
            self.hear(change)
        self.position = self.server.version

    def deliver(self, count: int | None = None) -> None:
        events = self.server.since(self.position)
        if events is None:
            self.state.forget()
            self.list()
            return
        for version, event in events[:count]:
            self.hear(self.state.apply_event(event))
            self.position = version

    @rule(name=NAMES)
    def somebody_writes(self, name: str) -> None:
        self.server.write(name)

    @rule(name=NAMES)
    def somebody_deletes(self, name: str) -> None:
        self.server.delete(name)

    @rule(count=st.integers(min_value=1, max_value=4))
    def events_arrive(self, count: int) -> None:
        self.deliver(count)

    @rule()
    def a_bookmark_arrives(self) -> None:
        self.deliver()
        self.server.version += 2  # something else in the cluster changed
        self.state.apply_event(Bookmark(str(self.server.version)))
        self.position = self.server.version

    @rule(back=st.integers(min_value=1, max_value=5))
    def events_are_repeated(self, back: int) -> None:
        seen = [event for version, event in self.server.history if version <= self.position]
        for event in seen[-back:]:
            assert self.state.apply_event(event) is None

    @rule()
    def the_connection_is_lost(self) -> None:
        self.position = int(self.state.resource_version or 0)

    @rule()
    def the_history_is_compacted(self) -> None:
        self.server.forgotten = self.server.version

    @rule()
    def the_watch_is_started_again(self) -> None:
        self.state.forget()
        self.list()

    @invariant()
    def what_was_told_is_what_is_known(self) -> None:
        assert self.told == self.state.objects

    def teardown(self) -> None:
        self.position = int(self.state.resource_version or 0)
        self.deliver()
        assert self.state.objects == self.server.objects


TestReflector = ReflectorMachine.TestCase
TestReflector.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_a_list_tells_differences_alone_and_the_deleted_first() -> None:
    state: ReflectorState[JobView] = ReflectorState()
    state.apply_list([job("kept", 1), job("changed", 2), job("gone", 3), job("replaced", 4, "old")], "5")
    kept = state.objects["kept"]
    changes = state.apply_list([job("kept", 1), job("changed", 7), job("replaced", 8, "new")], "9")
    assert [(c.object.metadata.name, c.deleted, c.object.metadata.uid) for c in changes] == [
        ("gone", True, "u"),
        ("replaced", True, "old"),
        ("changed", False, "u"),
        ("replaced", False, "new"),
    ]
    assert state.objects["kept"] is kept
    assert state.resource_version == "9"


def test_a_list_is_the_authority_also_where_versions_went_back() -> None:
    state: ReflectorState[JobView] = ReflectorState()
    state.apply_list([job("a", 1000)], "1000")
    assert [c.object for c in state.apply_list([job("a", 10)], "12")] == [job("a", 10)]
    assert state.apply_event(Upserted(job("a", 13))) == Change(job("a", 13))


def test_a_deletion_of_what_is_unknown_is_no_change() -> None:
    state: ReflectorState[JobView] = ReflectorState()
    state.apply_list([], "5")
    assert state.apply_event(Removed(job("a", 6))) is None
    assert state.resource_version == "6"


def test_a_bookmark_without_a_version_moves_nothing() -> None:
    state: ReflectorState[JobView] = ReflectorState()
    state.apply_list([], "5")
    assert state.apply_event(Bookmark("")) is None
    assert state.resource_version == "5"


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("9", "9", False),
        ("9", None, True),
        ("b-1", "a-2", True),
        ("a-2", "a-2", False),
        ("123456789012345678901234567890", "123456789012345678901234567889", True),
    ],
)
def test_versions_are_integers_of_any_length(version: str, than: str | None, newer: bool) -> None:
    assert is_newer(version, than) is newer


def test_versions_of_another_form_count_unless_they_are_the_same() -> None:
    state: ReflectorState[JobView] = ReflectorState()
    state.apply_list([job("a", "x")], "x")
    assert state.apply_event(Upserted(job("a", "y"))) == Change(job("a", "y"))
    assert state.apply_event(Upserted(job("a", "y"))) is None
