from oz_agent_worker.worker.backends.kubernetes.api.rest import PartialObject
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, ObjectMeta
from oz_agent_worker.worker.backends.kubernetes.watch.consistency_check import (
    VersionDifference,
    differences,
    persistent,
)


def watched(version: str) -> JobView:
    return JobView(metadata=ObjectMeta(name="j", resource_version=version))


def cached(version: str) -> PartialObject:
    return PartialObject(metadata=ObjectMeta(name="j", resource_version=version))


def test_what_both_agree_on_is_no_difference() -> None:
    assert differences(["j"], {"j": watched("5")}, {"j": cached("5")}) == {}
    assert differences(["j"], {}, {}) == {}


def test_only_what_is_in_flight_counts() -> None:
    assert differences([], {"j": watched("5")}, {}) == {}


def test_a_difference_names_both_versions() -> None:
    assert differences(["j"], {"j": watched("5")}, {"j": cached("6")}) == {"j": VersionDifference("5", "6")}
    assert differences(["j"], {"j": watched("5")}, {}) == {"j": VersionDifference("5", None)}
    assert differences(["j"], {}, {"j": cached("6")}) == {"j": VersionDifference(None, "6")}


def test_a_difference_persists_when_the_watch_sent_nothing_in_between() -> None:
    assert persistent({"j": VersionDifference("5", "6")}, {"j": VersionDifference("5", "7")}) == ["j"]


def test_a_watch_that_moves_on_is_alive_and_a_cache_that_is_behind_proves_nothing() -> None:
    assert persistent({"j": VersionDifference("5", "4")}, {"j": VersionDifference("8", "6")}) == []
    assert persistent({}, {"j": VersionDifference("5", "6")}) == []
    assert persistent({"j": VersionDifference("5", "6")}, {}) == []
