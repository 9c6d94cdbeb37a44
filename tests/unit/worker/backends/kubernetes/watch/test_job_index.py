import pytest

from oz_agent_worker.worker.backends.kubernetes.objects import (
    JobStatus,
    JobView,
    Labels,
    ObjectMeta,
    PodStatus,
    PodView,
)
from oz_agent_worker.worker.backends.kubernetes.watch.job_index import JobIndex
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change


class Recorder:
    """A follower that keeps what it hears."""

    def __init__(self, uid: str = "u-1", stands_since: float = 100.0) -> None:
        self.uid = uid
        self.stands_since = stands_since
        self.touches = 0
        self.gone: list[JobView | None] = []

    def touched(self) -> None:
        self.touches += 1

    def vanished(self, last: JobView | None) -> None:
        self.gone.append(last)


def job(name: str = "j", uid: str = "u-1", deletion_timestamp: str | None = None) -> JobView:
    return JobView(metadata=ObjectMeta(name=name, uid=uid, deletion_timestamp=deletion_timestamp))


def pod(uid: str, phase: str = "Running", of: str = "j", job_uid: str | None = "u-1") -> PodView:
    labels = Labels(job_name=of, job_uid=job_uid)
    return PodView(metadata=ObjectMeta(name=uid, uid=uid, labels=labels), status=PodStatus(phase=phase))


@pytest.fixture
def index() -> JobIndex:
    return JobIndex()


@pytest.fixture
def follower(index: JobIndex) -> Recorder:
    recorder = Recorder()
    index.follow("j", recorder)
    return recorder


def test_a_change_is_told_to_those_it_concerns(index: JobIndex, follower: Recorder) -> None:
    other = Recorder("u-2")
    index.follow("k", other)
    index.job_changed(Change(job()))
    index.pod_changed(Change(pod("p")))
    assert (follower.touches, other.touches) == (2, 0)


def test_a_namesake_is_another_job(index: JobIndex, follower: Recorder) -> None:
    index.job_changed(Change(job(uid="before")))
    index.job_changed(Change(job(uid="before"), deleted=True))
    assert (follower.touches, follower.gone) == (0, [])
    index.pod_changed(Change(pod("old", job_uid="before")))
    index.pod_changed(Change(pod("new")))
    assert index.pods("j", "u-1") == (pod("new"),)


def test_a_deleted_job_is_gone_and_one_that_is_being_deleted_too(index: JobIndex, follower: Recorder) -> None:
    going = job(deletion_timestamp="2026-01-01T00:00:00Z")
    index.job_changed(Change(going))
    index.job_changed(Change(job(), deleted=True))
    assert follower.gone == [going, job()]
    assert index.job("j") is None


def test_a_pod_is_kept_in_its_latest_state(index: JobIndex) -> None:
    index.pod_changed(Change(pod("p", "Pending")))
    index.pod_changed(Change(pod("q", "Pending")))
    index.pod_changed(Change(pod("p", "Running")))
    assert sorted((p.metadata.name, p.phase) for p in index.pods("j", "u-1")) == [
        ("p", "Running"),
        ("q", "Pending"),
    ]


def test_a_pod_that_went_is_forgotten_unless_it_tells_how_its_job_in_flight_ended(
    index: JobIndex, follower: Recorder
) -> None:
    index.pod_changed(Change(pod("p", "Running")))
    index.pod_changed(Change(pod("p", "Running"), deleted=True))
    assert index.pods("j", "u-1") == ()
    index.pod_changed(Change(pod("p", "Failed"), deleted=True))
    assert index.pods("j", "u-1") == (pod("p", "Failed"),)
    index.pod_changed(Change(pod("q", "Pending")))
    assert index.pods("j", "u-1") == (pod("q", "Pending"),)
    index.pod_changed(Change(pod("q", "Pending"), deleted=True))
    index.unfollow("j", follower)
    assert index.pods("j", "u-1") == ()


def test_a_pod_of_no_job_concerns_nobody(index: JobIndex, follower: Recorder) -> None:
    index.pod_changed(Change(PodView(metadata=ObjectMeta(name="stray"))))
    assert follower.touches == 0


def test_a_list_without_a_job_that_stood_before_it_began_means_the_job_is_gone(index: JobIndex) -> None:
    standing, missing, newer = Recorder("u-1"), Recorder("u-2"), Recorder("u-3", stands_since=300.0)
    for name, recorder in {"standing": standing, "missing": missing, "newer": newer}.items():
        index.follow(name, recorder)
    index.job_changed(Change(job("standing", "u-1")))
    index.jobs_listed(began=200.0)
    assert (standing.gone, missing.gone, newer.gone) == ([], [None], [])


def test_two_may_follow_one_job(index: JobIndex, follower: Recorder) -> None:
    second = Recorder()
    index.follow("j", second)
    assert [name for name, _ in index.in_flight()] == ["j", "j"]
    index.unfollow("j", follower)
    index.job_changed(Change(job()))
    assert (follower.touches, second.touches) == (0, 1)
    index.unfollow("j", second)
    index.unfollow("j", second)
    assert list(index.in_flight()) == []


class Observer:
    """One that keeps what it hears, and what the followers knew by then."""

    def __init__(self, follower: Recorder) -> None:
        self.follower = follower
        self.heard: list[tuple[str, int]] = []
        self.lists = 0

    def job_changed(self, change: Change[JobView]) -> None:
        self.heard.append((change.object.metadata.name, self.follower.touches))

    def jobs_listed(self) -> None:
        self.lists += 1


def test_an_observer_hears_of_every_job_once_its_followers_know(index: JobIndex, follower: Recorder) -> None:
    observer = Observer(follower)
    index.job_changed(Change(job()))
    index.observe(observer)
    index.job_changed(Change(JobView(metadata=job().metadata, status=JobStatus(active=1))))
    index.job_changed(Change(job("k", "u-2")))
    index.jobs_listed(began=0.0)
    assert (observer.heard, observer.lists) == ([("j", 2), ("k", 2)], 1)
    assert sorted(view.metadata.name for view in index.jobs()) == ["j", "k"]
    assert (index.is_followed("j"), index.is_followed("k")) == (True, False)


def test_a_change_in_what_nobody_observes_is_told_to_nobody(index: JobIndex, follower: Recorder) -> None:
    def version(number: str) -> tuple[JobView, PodView]:
        metadata = ObjectMeta(name="j", uid="u-1", resource_version=number)
        labels = Labels(job_name="j", job_uid="u-1")
        return JobView(metadata=metadata), PodView(
            metadata=ObjectMeta(name="p", uid="p", resource_version=number, labels=labels)
        )

    for number in ("1", "2"):
        changed_job, changed_pod = version(number)
        index.job_changed(Change(changed_job))
        index.pod_changed(Change(changed_pod))
    assert follower.touches == 2
    assert index.job("j") == changed_job
    assert index.pods("j", "u-1") == (changed_pod,)
