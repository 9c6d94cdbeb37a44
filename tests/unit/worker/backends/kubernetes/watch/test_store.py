"""The reflector's store, step by step; ``test_reflector_model`` has what steps add up to."""

import pytest

from oz_agent_worker.worker.backends.kubernetes.objects import JobView, ObjectMeta
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change, Store, is_newer
from oz_agent_worker.worker.backends.kubernetes.watch.stream import Bookmark, Deleted, Upserted


def job(name: str, version: int | str, uid: str = "u") -> JobView:
    return JobView(metadata=ObjectMeta(name=name, uid=uid, resource_version=str(version)))


def test_a_list_yields_only_differences_deletions_first() -> None:
    store: Store[JobView] = Store()
    store.replace([job("kept", 1), job("changed", 2), job("gone", 3), job("replaced", 4, "old")], "5")
    kept = store.objects["kept"]
    changes = store.replace([job("kept", 1), job("changed", 7), job("replaced", 8, "new")], "9")
    assert [(c.object.metadata.name, c.deleted, c.object.metadata.uid) for c in changes] == [
        ("gone", True, "u"),
        ("replaced", True, "old"),
        ("changed", False, "u"),
        ("replaced", False, "new"),
    ]
    assert store.objects["kept"] is kept
    assert store.resource_version == "9"


def test_a_list_is_the_authority_also_where_versions_went_back() -> None:
    store: Store[JobView] = Store()
    store.replace([job("a", 1000)], "1000")
    assert [c.object for c in store.replace([job("a", 10)], "12")] == [job("a", 10)]
    assert store.apply(Upserted(job("a", 13))) == (Change(job("a", 13)),)


def test_a_deletion_of_what_is_unknown_is_no_change() -> None:
    store: Store[JobView] = Store()
    store.replace([], "5")
    assert store.apply(Deleted(job("a", 6))) == ()
    assert store.resource_version == "6"


def test_a_bookmark_without_a_version_moves_nothing() -> None:
    store: Store[JobView] = Store()
    store.replace([], "5")
    assert store.apply(Bookmark("")) == ()
    assert store.resource_version == "5"


def test_an_overtaken_event_counts_for_an_existing_object() -> None:
    store: Store[JobView] = Store()
    store.replace([job("a", 2), job("b", 3)], "5")
    assert store.apply(Upserted(job("b", 9))) == (Change(job("b", 9)),)
    assert store.apply(Upserted(job("a", 8))) == (Change(job("a", 8)),)
    assert store.apply(Deleted(job("b", 8))) == ()
    assert store.apply(Upserted(job("c", 7))) == (), "it may be long gone"
    assert store.resource_version == "9"


def test_an_added_object_with_another_uid_implies_the_old_ones_deletion() -> None:
    store: Store[JobView] = Store()
    store.replace([job("a", 2, "old")], "5")
    changes = store.apply(Upserted(job("a", 9, "new")))
    assert changes == (Change(job("a", 2, "old"), deleted=True), Change(job("a", 9, "new")))
    assert store.apply(Deleted(job("a", 8, "old"))) == ()


def test_what_a_list_may_not_come_before() -> None:
    store: Store[JobView] = Store()
    assert not store.is_outdated("1")
    store.replace([], "10")
    store.apply(Bookmark("12"))
    store.require_relist()
    assert [store.is_outdated(version) for version in ("9", "11", "12", "13")] == [True, True, False, False]
    store.replace([], "9")
    assert not store.is_outdated("9")


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("9", "9", False),
        ("9", None, True),
        ("b-1", "a-2", True),
        ("a-2", "a-2", False),
        ("9", "a-2", True),
        ("a-2", "999", True),
        ("123456789012345678901234567890", "123456789012345678901234567889", True),
    ],
)
def test_versions_are_integers_of_any_length(version: str, than: str | None, newer: bool) -> None:
    assert is_newer(version, than) is newer


def test_versions_of_another_form_count_unless_they_are_the_same() -> None:
    store: Store[JobView] = Store()
    store.replace([job("a", "x")], "x")
    assert store.apply(Upserted(job("a", "y"))) == (Change(job("a", "y")),)
    assert store.apply(Upserted(job("a", "y"))) == ()
