"""An execution in flight: how it ends, how it is stopped, and what is cleaned up after it."""

import asyncio
import functools
import time
from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, cancelled, succeeded
from oz_agent_worker.worker.backends.base import NoOutput, OutputSink
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.event_reader import EventReader
from oz_agent_worker.worker.backends.kubernetes.execution import ExecutionContext, KubernetesExecution
from oz_agent_worker.worker.backends.kubernetes.inspection.evidence import EvidenceKeeper
from oz_agent_worker.worker.backends.kubernetes.log_follower import LogFollowers
from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.watch.job_index import JobIndex
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.events import EventKind, TaskEvent
from tests.virtual_time import START, in_virtual_time

from .memory_api import REFUSED, Fault, MemoryApi, connected
from .samples import job_view, running, task_spec, terminated, waiting

PLAN = plan_job(task_spec(), KubernetesConfig(namespace="agents"), worker_id="w", cleanup=True, owner="me")
UID = "uid-1"
COMPLETE = {"type": "Complete", "status": "True"}
FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
NO_IMAGE = waiting("task", "ErrImagePull", "connection refused")
FORBIDDEN = Fault(403, "a webhook says no")


class Sink:
    """Keeps what is written."""

    wanted = True

    def __init__(self) -> None:
        self.written = b""

    def write(self, chunk: bytes) -> None:
        self.written += chunk


class Bench:
    """One Job in the API server, in the index, and followed by an execution."""

    def __init__(self, api: MemoryApi, context: ExecutionContext) -> None:
        self.api = api
        self.context = context
        self.index = context.index
        self.worker_events: list[object] = []
        self.execution: KubernetesExecution

    def job(self, *conditions: dict[str, Any], **metadata: Any) -> None:
        """The watch reports the Job."""
        status = {"conditions": list(conditions), "startTime": "2026-01-01T12:00:00Z", "active": 1}
        metadata = {**PLAN.job["metadata"], "uid": UID, **metadata}
        view = job_view({**PLAN.job, "metadata": metadata, "status": status})
        self.index.on_job_change(Change(view))

    def gone(self) -> None:
        """The watch reports that the Job was deleted."""
        view = self.index.job(PLAN.name)
        assert view is not None
        self.index.on_job_change(Change(view, deleted=True))

    def pod(
        self,
        phase: str,
        *containers: dict[str, Any],
        name: str = "pod-1",
        deleted: bool = False,
        metadata: dict[str, Any] | None = None,
        **status: Any,
    ) -> None:
        """The watch reports a Pod of the Job."""
        labels = {"job-name": PLAN.name, "batch.kubernetes.io/controller-uid": UID}
        pod = {
            "metadata": {
                "name": name,
                "uid": name,
                "namespace": "agents",
                "labels": labels,
                **(metadata or {}),
            },
            "spec": {"nodeName": "node-1"},
            "status": {"phase": phase, "containerStatuses": list(containers), **status},
        }
        self.index.on_pod_change(Change(msgspec.convert(pod, PodView), deleted=deleted))

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.worker_events if isinstance(event, TaskEvent)]

    def deletions(self) -> int:
        return self.api.requests.count("DELETE jobs")

    async def ends(self) -> tuple[Outcome, float]:
        """The outcome, and after how many seconds it was there."""
        outcome = await self.execution.wait()
        return outcome, time.monotonic() - START


async def begin(
    api: MemoryApi,
    *,
    output: OutputSink | None = None,
    adopted: bool = False,
    cleanup: bool = True,
    evidence: EvidenceKeeper | None = None,
) -> Bench:
    client = await connected(api)
    worker_events: list[object] = []
    context = ExecutionContext(
        client=client,
        index=JobIndex(),
        namespace="agents",
        cleanup=cleanup,
        policy=ObservationPolicy(pull_grace=60.0),
        events=EventReader(functools.partial(client.list_events_about, "agents"), clock=time.monotonic),
        clock=time.monotonic,
        log_followers=LogFollowers(),
        evidence=evidence,
        precedence=30.0,
        notify=worker_events.append,
    )
    bench = Bench(api, context)
    bench.worker_events = worker_events
    api.add_job(PLAN.job)
    api.on_job_deleted = lambda job: bench.gone()
    bench.job()
    bench.execution = KubernetesExecution(
        context, PLAN.name, UID, time.monotonic(), output or NoOutput(), adopted=adopted
    )
    return bench


def later(seconds: float, *calls: Any) -> None:
    """Call functions of the bench, each with its arguments, when so much time has passed."""

    def call_all() -> None:
        for function, *arguments in calls:
            function(*arguments)

    asyncio.get_running_loop().call_later(seconds, call_all)


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


# How it ends -----------------------------------------------------------------------------------


@in_virtual_time
async def test_it_succeeds_when_its_job_is_complete(api: MemoryApi) -> None:
    bench = await begin(api)
    later(5, (bench.pod, "Running", running("task")))
    later(9, (bench.pod, "Succeeded", terminated("task", 0)), (bench.job, COMPLETE))
    assert await bench.ends() == (succeeded(), 9.0)
    assert bench.kinds() == [EventKind.JOB_NAMED, EventKind.AGENT_STARTED]
    assert not bench.index.has_handler(PLAN.name)
    assert api.requests == []


@in_virtual_time
async def test_it_fails_as_its_pod_says(api: MemoryApi) -> None:
    bench = await begin(api)
    later(9, (bench.pod, "Failed", terminated("task", 3)), (bench.job, FAILED))
    outcome, after = await bench.ends()
    assert (outcome.reason, outcome.exit_code, after) == (FailureReason.CONTAINER_EXIT, 3, 9.0)
    assert EventKind.AGENT_STARTED in bench.kinds()  # it was never seen to run
    assert bench.deletions() == 0  # it stays for its TTL


@in_virtual_time
async def test_every_waiter_gets_the_same_outcome(api: MemoryApi) -> None:
    bench = await begin(api)
    later(1, (bench.job, COMPLETE))
    first, second = await asyncio.gather(bench.execution.wait(), bench.execution.wait())
    assert first is second is await bench.execution.wait()


@in_virtual_time
async def test_a_wait_that_is_cancelled_leaves_the_job_alone(api: MemoryApi) -> None:
    bench = await begin(api)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await bench.execution.wait()
    later(1, (bench.job, COMPLETE))
    assert await bench.ends() == (succeeded(), 11.0)
    assert api.requests == []


@pytest.mark.parametrize(
    ("pod_after", "reason", "ends_after"),
    [(1.5, FailureReason.CONTAINER_EXIT, 6.5), (2.5, FailureReason.POD_MISSING, 7.0)],
    ids=["in time", "too late"],
)
@in_virtual_time
async def test_the_end_of_a_job_waits_a_moment_for_its_pod(
    api: MemoryApi, pod_after: float, reason: FailureReason, ends_after: float
) -> None:
    bench = await begin(api)
    later(5, (bench.job, FAILED))
    later(5 + pod_after, (bench.pod, "Failed", terminated("task", 3)))
    outcome, after = await bench.ends()
    assert (outcome.reason, after) == (reason, ends_after)


@in_virtual_time
async def test_a_success_without_a_listener_waits_for_no_pod(api: MemoryApi) -> None:
    bench = await begin(api)
    later(5, (bench.job, COMPLETE))
    assert await bench.ends() == (succeeded(), 5.0)
    assert EventKind.AGENT_STARTED in bench.kinds()  # it was never seen to run


@pytest.mark.parametrize(
    ("readable", "reason"), [(True, FailureReason.POD_PREEMPTED), (False, FailureReason.POD_MISSING)]
)
@in_virtual_time
async def test_events_explain_why_a_pod_is_gone(
    api: MemoryApi, readable: bool, reason: FailureReason
) -> None:
    about = {"kind": "Pod", "name": "pod-1"}
    api.events = [
        {"reason": "Preempted", "message": "by another", "involvedObject": about, "lastTimestamp": None},
        {"reason": "SuccessfulCreate", "message": "Created pod: pod-1", "involvedObject": {"kind": "Job"}},
    ]
    if not readable:
        api.fail("GET events", FORBIDDEN, 10)
    bench = await begin(api)
    bench.job(FAILED)
    assert (await bench.ends())[0].reason is reason


# Problems --------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_problem_fails_it_after_its_grace_and_the_job_is_deleted(api: MemoryApi) -> None:
    bench = await begin(api)
    later(5, (bench.pod, "Pending", NO_IMAGE))
    later(40, (bench.pod, "Pending", waiting("task", "ImagePullBackOff", "another word for it")))
    outcome, after = await bench.ends()
    await bench.execution.release(outcome)
    assert (outcome.reason, after) == (FailureReason.IMAGE_PULL, 65.0)
    assert (api.jobs, bench.deletions()) == ({}, 1)


@in_virtual_time
async def test_with_cleanup_off_a_job_that_cannot_run_is_left_alone(api: MemoryApi) -> None:
    bench = await begin(api, cleanup=False)
    bench.pod("Pending", NO_IMAGE)
    outcome, _ = await bench.ends()
    await bench.execution.release(outcome)
    assert (outcome.reason, bench.deletions()) == (FailureReason.IMAGE_PULL, 0)


@in_virtual_time
async def test_a_problem_that_passes_starts_again_with_a_whole_grace(api: MemoryApi) -> None:
    bench = await begin(api)
    bench.pod("Pending", NO_IMAGE)
    later(50, (bench.pod, "Running", running("task")))
    later(55, (bench.pod, "Pending", NO_IMAGE))
    outcome, after = await bench.ends()
    assert (outcome.reason, after) == (FailureReason.IMAGE_PULL, 115.0)


@in_virtual_time
async def test_events_are_read_for_a_problem_and_count(api: MemoryApi) -> None:
    api.events = [{"reason": "FailedMount", "message": "no secret", "type": "Warning"}]
    bench = await begin(api)
    bench.pod("Pending", waiting("task", "ContainerCreating"))
    outcome, after = await bench.ends()
    assert outcome.reason is FailureReason.VOLUME_MOUNT
    assert 60 <= after <= 80
    assert "no secret" in outcome.message
    assert api.requests.count("GET events") < 12
    assert bench.context.events.facts(UID) is NOT_READ


@in_virtual_time
async def test_event_facts_about_a_problem_go_with_it(api: MemoryApi) -> None:
    api.events = [{"reason": "FailedMount", "message": "no secret", "type": "Warning"}]
    bench = await begin(api)
    bench.pod("Pending", waiting("task", "ContainerCreating"))
    facts: list[bool] = []
    later(30, (lambda: facts.append(bench.context.events.facts(UID) is NOT_READ),))
    later(31, (bench.pod, "Running", running("task")))
    later(32, (lambda: facts.append(bench.context.events.facts(UID) is NOT_READ),))
    later(40, (bench.job, COMPLETE))
    assert await bench.ends() == (succeeded(), 40.0)
    assert facts == [False, True]


@in_virtual_time
async def test_a_job_that_failed_and_cannot_be_deleted_is_deleted_on_release(
    api: MemoryApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.fail("DELETE jobs", FORBIDDEN)
    bench = await begin(api)
    bench.pod("Pending", NO_IMAGE)
    outcome, _ = await bench.ends()
    assert "cannot be deleted yet" in caplog.text
    assert len(api.jobs) == 1
    await bench.execution.release(outcome)
    assert api.jobs == {}


# An end before that of the Job --------------------------------------------------------------------

GOES_ON = (terminated("task", 0), running("proxy"))


@pytest.mark.parametrize(("code", "reason"), [(0, None), (3, FailureReason.CONTAINER_EXIT)])
@pytest.mark.parametrize("cleanup", [True, False])
@in_virtual_time
async def test_k10_the_end_of_the_container_task_is_the_tasks_end(
    api: MemoryApi, cleanup: bool, code: int, reason: FailureReason | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Its Job is deleted when the result is delivered, so that what is beside it does not run on."""
    caplog.set_level("INFO")
    bench = await begin(api, cleanup=cleanup)
    later(5, (bench.pod, "Running", running("task"), running("proxy")))
    later(9, (bench.pod, "Running", terminated("task", code), running("proxy")))
    outcome, after = await bench.ends()
    assert (outcome.reason, outcome.exit_code, after) == (reason, code or None, 39.0)
    assert "beside it `proxy` still runs" in caplog.text
    assert bench.deletions() == 0
    await bench.execution.release(outcome)
    assert bench.deletions() == (1 if cleanup else 0)


@in_virtual_time
async def test_k10_the_end_is_the_same_where_the_others_end_in_time(api: MemoryApi) -> None:
    bench = await begin(api)
    later(5, (bench.pod, "Running", *GOES_ON))
    later(20, (bench.pod, "Failed", terminated("task", 0), terminated("proxy", 143)), (bench.job, FAILED))
    assert await bench.ends() == (succeeded(), 20.0)


@in_virtual_time
async def test_k10_the_log_is_read_to_its_end_before_the_job_goes(api: MemoryApi) -> None:
    api.logs["pod-1"] = b"2026-01-01T12:00:01.000000000Z hello\n"
    sink = Sink()
    bench = await begin(api, output=sink)
    bench.pod("Running", *GOES_ON)
    outcome, _ = await bench.ends()
    assert (outcome, sink.written) == (succeeded(), b"hello\n")
    assert bench.deletions() == 0


@pytest.mark.parametrize(
    ("conditions", "after"),
    [([], 125.0), ([{"type": "SuccessCriteriaMet", "status": "True"}], 35.0)],
    ids=["no controller", "a finalizer that stays"],
)
@in_virtual_time
async def test_k6_a_pod_that_has_ended_decides(
    api: MemoryApi, conditions: list[dict[str, Any]], after: float
) -> None:
    bench = await begin(api)
    later(5, (bench.pod, "Succeeded", terminated("task", 0)), (bench.job, *conditions))
    assert await bench.ends() == (succeeded(), after)


@in_virtual_time
async def test_a_task_that_had_ended_when_its_job_was_deleted_has_ended(api: MemoryApi) -> None:
    bench = await begin(api)
    later(5, (bench.pod, "Running", *GOES_ON))
    later(9, (bench.gone,))
    assert await bench.ends() == (succeeded(), 9.0)


@in_virtual_time
async def test_a_task_that_ended_after_its_job_was_deleted_was_ended(api: MemoryApi) -> None:
    bench = await begin(api)
    deleted = {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}
    later(5, (bench.pod, "Running", *GOES_ON), (bench.gone,))
    bench.pod("Running", terminated("task", 0, finishedAt="2026-01-01T12:00:09Z"), metadata=deleted)
    later(4, (bench.gone,))
    assert (await bench.ends())[0].reason is FailureReason.JOB_FAILED


# A Pod too many ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cleanup", [True, False])
@in_virtual_time
async def test_k9_a_second_pod_ends_the_task_before_it_starts(api: MemoryApi, cleanup: bool) -> None:
    bench = await begin(api, cleanup=cleanup)
    bench.pod("Running", running("task"))
    later(5, (lambda: bench.pod("Running", running("task"), deleted=True),))
    later(6, (lambda: bench.pod("Pending", waiting("task", "ContainerCreating"), name="pod-2"),))
    outcome, after = await bench.ends()
    assert (outcome.reason, after) == (FailureReason.POD_REPLACED, 6.0)
    assert "another Pod, pod-2" in outcome.message
    # At once, and with cleanup off as well: it is no tidying up.
    assert (bench.deletions(), api.jobs) == (1, {})
    await bench.execution.release(outcome)
    assert bench.deletions() == 1


@in_virtual_time
async def test_k9_a_second_pod_that_has_succeeded_is_no_success(api: MemoryApi) -> None:
    bench = await begin(api)
    bench.pod("Running", running("task"))
    bench.pod("Running", running("task"), deleted=True)
    bench.pod("Succeeded", terminated("task", 0), name="pod-2")
    bench.job(COMPLETE)
    outcome, _ = await bench.ends()
    assert (outcome.reason, bench.deletions()) == (FailureReason.POD_REPLACED, 0)


@in_virtual_time
async def test_k9_a_pod_that_is_made_by_mistake_and_taken_away_fails_nothing(api: MemoryApi) -> None:
    """The API server died before it answered the creation of the first."""
    bench = await begin(api)
    bench.pod("Running", running("task"))
    later(5, (lambda: bench.pod("Pending", waiting("task", "ContainerCreating"), name="pod-2"),))
    deleted = {"deletionTimestamp": "2026-01-01T12:00:00Z"}
    later(8, (lambda: bench.pod("Pending", name="pod-2", metadata=deleted),))
    later(40, (bench.pod, "Succeeded", terminated("task", 0)), (bench.job, COMPLETE))
    assert await bench.ends() == (succeeded(), 40.0)


# Deletion by another ---------------------------------------------------------------------------


@pytest.mark.parametrize(("adopted", "after"), [(False, 5.0), (True, 35.0)])
@in_virtual_time
async def test_a_job_that_somebody_deletes_has_failed(api: MemoryApi, adopted: bool, after: float) -> None:
    bench = await begin(api, adopted=adopted)
    later(5, (bench.gone,))
    outcome, ended_after = await bench.ends()
    assert (outcome.reason, ended_after) == (FailureReason.JOB_FAILED, after)
    assert "deleted by somebody else" in outcome.message


@in_virtual_time
async def test_a_job_that_ended_before_it_was_deleted_has_ended(api: MemoryApi) -> None:
    bench = await begin(api)
    bench.job(COMPLETE)
    bench.gone()
    assert (await bench.ends())[0] == succeeded()


@in_virtual_time
async def test_a_job_of_the_name_with_another_uid_is_another_job(api: MemoryApi) -> None:
    bench = await begin(api)
    bench.gone()
    bench.job(COMPLETE, uid="uid-2")
    assert (await bench.ends())[0].reason is FailureReason.JOB_FAILED


@in_virtual_time
async def test_a_cancellation_of_a_job_that_another_worker_deleted_is_a_cancellation(api: MemoryApi) -> None:
    bench = await begin(api, adopted=True)
    bench.gone()
    waits = asyncio.ensure_future(bench.execution.wait())
    await asyncio.sleep(10)
    await bench.execution.stop("asked for")
    assert await waits == cancelled("asked for")
    assert bench.deletions() == 0


# Cancellation ----------------------------------------------------------------------------------


async def stopped_after(bench: Bench, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await bench.execution.stop("asked for")


@in_virtual_time
async def test_a_cancellation_deletes_the_job(api: MemoryApi) -> None:
    bench = await begin(api)
    _, (outcome, after) = await asyncio.gather(stopped_after(bench, 5), bench.ends())
    assert (outcome, after, api.jobs) == (cancelled("asked for"), 5.0, {})
    await bench.execution.stop("again")
    await bench.execution.release(outcome)
    assert bench.deletions() == 1


@in_virtual_time
async def test_a_cancellation_is_tried_until_the_server_is_back(api: MemoryApi) -> None:
    api.fail("DELETE jobs", REFUSED, 60)
    bench = await begin(api)
    _, (outcome, after) = await asyncio.gather(stopped_after(bench, 5), bench.ends())
    assert (outcome, api.jobs) == (cancelled("asked for"), {})
    assert after > 300


@in_virtual_time
async def test_a_cancellation_ends_when_the_job_does(api: MemoryApi) -> None:
    api.fail("DELETE jobs", REFUSED, 10_000)
    bench = await begin(api)
    later(400, (bench.job, COMPLETE))
    _, (outcome, after) = await asyncio.gather(stopped_after(bench, 5), bench.ends())
    assert (outcome, after) == (succeeded(), 400.0)


@in_virtual_time
async def test_a_cancellation_that_is_refused_is_an_error_and_may_be_tried_again(api: MemoryApi) -> None:
    api.fail("DELETE jobs", FORBIDDEN)
    bench = await begin(api)
    with pytest.raises(ApiError, match="a webhook says no"):
        await bench.execution.stop("asked for")
    await bench.execution.stop("asked again")
    assert (await bench.ends())[0] == cancelled("asked again")


@in_virtual_time
async def test_after_the_end_there_is_nothing_to_stop(api: MemoryApi) -> None:
    bench = await begin(api)
    bench.job(COMPLETE)
    await bench.execution.stop("before anybody waited")
    outcome, _ = await bench.ends()
    await bench.execution.stop("after")
    assert (outcome, bench.deletions()) == (succeeded(), 0)


# Release ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "cleanup", "deletions"),
    [(COMPLETE, True, 1), (COMPLETE, False, 0), (FAILED, True, 0), (FAILED, False, 0)],
)
@in_virtual_time
async def test_a_job_that_succeeded_goes_and_one_that_failed_stays(
    api: MemoryApi, condition: dict[str, Any], cleanup: bool, deletions: int
) -> None:
    bench = await begin(api, cleanup=cleanup)
    bench.pod("Failed", terminated("task", 1))
    bench.job(condition)
    await bench.execution.release(await bench.execution.wait())
    assert (bench.deletions(), len(api.jobs)) == (deletions, 1 - deletions)


@in_virtual_time
async def test_a_release_ends_the_interest_in_the_job(api: MemoryApi) -> None:
    bench = await begin(api)
    await bench.execution.release(cancelled())
    assert not bench.index.has_handler(PLAN.name)
    assert api.jobs == {}  # it may still run


@in_virtual_time
async def test_a_release_waits_for_the_server_and_says_what_it_refuses(api: MemoryApi) -> None:
    bench = await begin(api)
    bench.job(COMPLETE)
    outcome, _ = await bench.ends()
    api.fail("DELETE jobs", REFUSED, 3)
    api.fail("DELETE jobs", FORBIDDEN)
    with pytest.raises(ApiError, match="a webhook says no"):
        await bench.execution.release(outcome)
    assert bench.deletions() == 4


# Output and evidence ---------------------------------------------------------------------------


@in_virtual_time
async def test_the_log_is_written_before_the_outcome_is_known(api: MemoryApi) -> None:
    api.logs["pod-1"] = b"2026-01-01T12:00:01.000000000Z hello\n2026-01-01T12:00:02.000000000Z done\n"
    sink = Sink()
    bench = await begin(api, output=sink)
    later(5, (bench.pod, "Running", running("task")))
    later(9, (bench.pod, "Failed", terminated("task", 1)), (bench.job, FAILED))
    outcome, _ = await bench.ends()
    assert (outcome.exit_code, sink.written) == (1, b"hello\ndone\n")


@in_virtual_time
async def test_the_log_is_followed_while_the_task_runs(api: MemoryApi) -> None:
    api.logs["pod-1"] = b"2026-01-01T12:00:01.000000000Z hello\n"
    sink, written = Sink(), list[bytes]()
    bench = await begin(api, output=sink)
    later(5, (bench.pod, "Running", running("task")))
    later(8, (lambda: written.append(sink.written),))
    later(9, (bench.pod, "Succeeded", terminated("task", 0)), (bench.job, COMPLETE))
    assert await bench.ends() == (succeeded(), 9.0)
    assert (written, sink.written) == ([b"hello\n"], b"hello\n")


@in_virtual_time
async def test_a_log_that_cannot_be_read_changes_no_outcome(api: MemoryApi) -> None:
    sink = Sink()
    bench = await begin(api, output=sink)
    bench.pod("Succeeded", terminated("task", 0))
    bench.job(COMPLETE)
    assert (await bench.ends())[0] == succeeded()
    assert b"the log could not be read" in sink.written


class Evidence:
    """Notes what is to be kept."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, FailureReason | None, str | None]] = []

    async def keep(self, job: str, outcome: Outcome, *, ended_before: str | None = None) -> None:
        self.kept.append((job, outcome.reason, ended_before))


@pytest.mark.parametrize("adopted", [False, True])
@in_virtual_time
async def test_the_evidence_of_a_failure_is_kept(api: MemoryApi, adopted: bool) -> None:
    evidence: Any = Evidence()
    bench = await begin(api, adopted=adopted, evidence=evidence)
    at = "2026-01-01T12:00:00Z"
    bench.job({**FAILED, "lastTransitionTime": at})
    bench.pod("Failed", terminated("task", 1))
    outcome, _ = await bench.ends()
    assert outcome.result is TaskResult.FAILED
    assert evidence.kept == [(PLAN.name, FailureReason.CONTAINER_EXIT, at if adopted else None)]
