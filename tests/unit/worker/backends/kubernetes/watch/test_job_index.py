import msgspec
import pytest
from msgspec.structs import replace

from oz_agent_worker.worker.backends.kubernetes.objects import (
    JobStatus,
    JobView,
    Labels,
    ObjectMeta,
    PodSpec,
    PodStatus,
    PodView,
)
from oz_agent_worker.worker.backends.kubernetes.watch.job_index import JobIndex
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change


class Recorder:
    """A handler that keeps what it hears."""

    def __init__(self, uid: str = "u-1", created_at: float = 100.0) -> None:
        self.uid = uid
        self.created_at = created_at
        self.touches = 0
        self.gone: list[JobView | None] = []

    def on_update(self) -> None:
        self.touches += 1

    def on_delete(self, last: JobView | None) -> None:
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
def handler(index: JobIndex) -> Recorder:
    recorder = Recorder()
    index.add_handler("j", recorder)
    return recorder


def test_a_change_calls_the_handlers_of_its_job(index: JobIndex, handler: Recorder) -> None:
    other = Recorder("u-2")
    index.add_handler("k", other)
    index.on_job_change(Change(job()))
    index.on_pod_change(Change(pod("p")))
    assert (handler.touches, other.touches) == (2, 0)


def test_a_job_with_the_same_name_and_another_uid_is_another_job(index: JobIndex, handler: Recorder) -> None:
    index.on_job_change(Change(job(uid="before")))
    index.on_job_change(Change(job(uid="before"), deleted=True))
    assert (handler.touches, handler.gone) == (0, [])
    index.on_pod_change(Change(pod("old", job_uid="before")))
    index.on_pod_change(Change(pod("new")))
    assert index.pods("j", "u-1") == (pod("new"),)


def test_a_deleted_job_is_gone_and_one_that_is_being_deleted_too(index: JobIndex, handler: Recorder) -> None:
    going = job(deletion_timestamp="2026-01-01T00:00:00Z")
    index.on_job_change(Change(going))
    index.on_job_change(Change(job(), deleted=True))
    assert handler.gone == [going, job()]
    assert index.job("j") is None


def test_a_pod_is_kept_in_its_latest_state(index: JobIndex) -> None:
    index.on_pod_change(Change(pod("p", "Pending")))
    index.on_pod_change(Change(pod("q", "Pending")))
    index.on_pod_change(Change(pod("p", "Running")))
    assert sorted((p.metadata.name, p.phase) for p in index.pods("j", "u-1")) == [
        ("p", "Running"),
        ("q", "Pending"),
    ]


def test_k13_the_first_request_to_end_a_pod_is_its_time(index: JobIndex, handler: Recorder) -> None:
    """The node removes the Pod with a grace of 0, which sets the time of that as the deletion's."""

    def deleting(phase: str, at: str, grace: int) -> PodView:
        view = pod("p-1", phase)
        times = {"deletion_timestamp": at, "deletion_grace_period_seconds": grace}
        return replace(view, metadata=replace(view.metadata, **times))

    index.on_pod_change(Change(pod("p-1")))
    index.on_pod_change(Change(deleting("Running", "2026-01-01T12:00:30Z", 30)))
    index.on_pod_change(Change(deleting("Succeeded", "2026-01-01T12:00:04Z", 0)))
    index.on_pod_change(Change(deleting("Succeeded", "2026-01-01T12:00:05Z", 0), deleted=True))
    (last,) = index.pods("j", "u-1")
    assert last.has_ended
    assert last.metadata.deletion_timestamp == "2026-01-01T12:00:30Z"
    assert last.metadata.deletion_grace_period_seconds == 30


def test_a_deleted_pod_is_forgotten_unless_it_shows_how_its_running_job_ended(
    index: JobIndex, handler: Recorder
) -> None:
    index.on_pod_change(Change(pod("p", "Running")))
    index.on_pod_change(Change(pod("p", "Running"), deleted=True))
    assert index.pods("j", "u-1") == ()
    index.on_pod_change(Change(pod("p", "Failed"), deleted=True))
    assert index.pods("j", "u-1") == (pod("p", "Failed"),)
    index.on_pod_change(Change(pod("q", "Pending")))
    assert index.pods("j", "u-1") == (pod("q", "Pending"),)
    index.on_pod_change(Change(pod("q", "Pending"), deleted=True))
    index.remove_handler("j", handler)
    assert index.pods("j", "u-1") == ()


def bound(view: PodView, *, started: bool = False) -> PodView:
    """The Pod, on a node."""
    state: dict[str, object] = {"running": {}} if started else {"waiting": {}}
    found = [{"name": "task", "state": state}]
    status = msgspec.convert({"phase": view.phase, "containerStatuses": found}, PodStatus)
    return msgspec.structs.replace(view, spec=PodSpec(node_name="n"), status=status)


@pytest.mark.parametrize(
    ("gone", "replaced"),
    [
        (bound(pod("p"), started=True), 1),
        (bound(pod("p", "Pending")), 1),  # it may have started since its node's last report
        (pod("p", "Pending"), 0),  # it had no node
        (bound(pod("p", "Failed")), 0),  # refused by its node
        (bound(pod("p", "Failed"), started=True), 1),
        (bound(pod("p", job_uid="u-0"), started=True), 0),
    ],
)
def test_k9_the_pods_that_are_gone_are_counted(
    index: JobIndex, handler: Recorder, gone: PodView, replaced: int
) -> None:
    index.on_pod_change(Change(gone))
    assert index.replaced("j", "u-1") == 0
    index.on_pod_change(Change(gone, deleted=True))
    # The last one that had ended is shown, and so is none that is gone.
    assert index.replaced("j", "u-1") == (0 if gone.has_ended else replaced)
    index.on_pod_change(Change(pod("q")))
    assert index.replaced("j", "u-1") == replaced
    # A list from an older cache may show it again.
    index.on_pod_change(Change(gone))
    assert index.replaced("j", "u-1") == 0
    index.on_pod_change(Change(gone, deleted=True))
    assert index.replaced("j", "u-1") == replaced
    index.remove_handler("j", handler)
    assert index.replaced("j", "u-1") == 0
    index.on_pod_change(Change(gone, deleted=True))
    assert index.replaced("j", "u-1") == 0


def test_a_pod_without_a_job_calls_no_handler(index: JobIndex, handler: Recorder) -> None:
    index.on_pod_change(Change(PodView(metadata=ObjectMeta(name="stray"))))
    assert handler.touches == 0


def test_a_list_without_a_job_that_existed_before_it_began_means_the_job_is_gone(index: JobIndex) -> None:
    existing, missing, newer = Recorder("u-1"), Recorder("u-2"), Recorder("u-3", created_at=300.0)
    for name, recorder in {"standing": existing, "missing": missing, "newer": newer}.items():
        index.add_handler(name, recorder)
    index.on_job_change(Change(job("standing", "u-1")))
    index.on_list(began=200.0)
    assert (existing.gone, missing.gone, newer.gone) == ([], [None], [])


def test_a_job_may_have_two_handlers(index: JobIndex, handler: Recorder) -> None:
    second = Recorder()
    index.add_handler("j", second)
    assert [name for name, _ in index.handlers()] == ["j", "j"]
    index.remove_handler("j", handler)
    index.on_job_change(Change(job()))
    assert (handler.touches, second.touches) == (0, 1)
    index.remove_handler("j", second)
    index.remove_handler("j", second)
    assert list(index.handlers()) == []


class Listener:
    """One that keeps what it hears, and what the handlers knew by then."""

    def __init__(self, handler: Recorder) -> None:
        self.handler = handler
        self.heard: list[tuple[str, int]] = []
        self.lists = 0

    def on_job_change(self, change: Change[JobView]) -> None:
        self.heard.append((change.object.metadata.name, self.handler.touches))

    def on_relist(self) -> None:
        self.lists += 1


def test_the_listener_hears_of_every_job_after_its_handlers(index: JobIndex, handler: Recorder) -> None:
    listener = Listener(handler)
    index.on_job_change(Change(job()))
    index.set_listener(listener)
    index.on_job_change(Change(JobView(metadata=job().metadata, status=JobStatus(active=1))))
    index.on_job_change(Change(job("k", "u-2")))
    index.on_list(began=0.0)
    assert (listener.heard, listener.lists) == ([("j", 2), ("k", 2)], 1)
    assert sorted(view.metadata.name for view in index.jobs()) == ["j", "k"]
    assert (index.has_handler("j"), index.has_handler("k")) == (True, False)


def test_a_change_of_an_unobserved_object_calls_no_handler(index: JobIndex, handler: Recorder) -> None:
    def version(number: str) -> tuple[JobView, PodView]:
        metadata = ObjectMeta(name="j", uid="u-1", resource_version=number)
        labels = Labels(job_name="j", job_uid="u-1")
        return JobView(metadata=metadata), PodView(
            metadata=ObjectMeta(name="p", uid="p", resource_version=number, labels=labels)
        )

    for number in ("1", "2"):
        changed_job, changed_pod = version(number)
        index.on_job_change(Change(changed_job))
        index.on_pod_change(Change(changed_pod))
    assert handler.touches == 2
    assert index.job("j") == changed_job
    assert index.pods("j", "u-1") == (changed_pod,)
