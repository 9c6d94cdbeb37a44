"""A Job is created once, or the one that exists is adopted, whatever becomes of the requests."""

import asyncio
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError
from oz_agent_worker.worker.backends.kubernetes.job_creation import (
    CreatedJob,
    JobLookup,
    NoRoomError,
    create_or_adopt,
)
from oz_agent_worker.worker.backends.kubernetes.manifest.job import JobPlan, plan_job
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.virtual_time import START, in_virtual_time

from .memory_api import LOST_ANSWER, NO_ROLES_YET, REFUSED, Fault, MemoryApi, connected
from .samples import job_view, task_spec

CONFIG = KubernetesConfig(namespace="agents")
QUOTA = Fault(403, 'jobs "x" is forbidden: exceeded quota: small, requested: jobs=1, used: jobs=1')


def plan(config: KubernetesConfig = CONFIG, owner: str = "me", **spec: Any) -> JobPlan:
    return plan_job(task_spec(**spec), config, worker_id="w", cleanup=True, unique="1", owner=owner)


class Lookup:
    """What the watch has reported, and whether Jobs may be adopted."""

    def __init__(self) -> None:
        self.watched: JobView | None = None
        self.objection: str | None = None

    async def _objection(self, job: JobView) -> str | None:
        return self.objection

    def __call__(self) -> JobLookup:
        return JobLookup(lambda name: self.watched, self._objection)


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
def lookup() -> Lookup:
    return Lookup()


async def create(
    api: MemoryApi,
    lookup: Lookup,
    planned: JobPlan | None = None,
    cancelled: asyncio.Event | None = None,
) -> CreatedJob:
    return await create_or_adopt(await connected(api), planned or plan(), lookup(), cancelled)


def elapsed() -> float:
    return asyncio.get_running_loop().time() - START


@in_virtual_time
async def test_one_request_creates_the_job(api: MemoryApi, lookup: Lookup) -> None:
    created = await create(api, lookup)
    assert (created.job.metadata.uid, created.since, created.adopted) == ("uid-1", START, False)
    assert api.requests == ["POST jobs"]
    assert api.jobs == {plan().name: {**plan().job, "metadata": {**plan().job["metadata"], "uid": "uid-1"}}}


# A Job that exists -----------------------------------------------------------------------------


@in_virtual_time
async def test_a_job_that_exists_is_adopted(api: MemoryApi, lookup: Lookup) -> None:
    api.add_job(plan(owner="an earlier worker").job)
    created = await create(api, lookup)
    assert (created.job.metadata.uid, created.adopted) == ("uid-1", True)
    assert api.requests == ["POST jobs", "GET jobs"]


@in_virtual_time
async def test_a_job_of_another_worker_is_not_adopted(api: MemoryApi, lookup: Lookup) -> None:
    api.add_job(plan(owner="another").job)
    lookup.objection = "belongs to another"
    with pytest.raises(OwnedByAnotherWorkerError, match="exists already and belongs to another"):
        await create(api, lookup)


@in_virtual_time
async def test_a_job_of_another_execution_fails_the_task(api: MemoryApi, lookup: Lookup) -> None:
    other = plan().job
    other["metadata"]["annotations"]["oz.warp.dev/execution-id"] = "another"
    api.add_job(other)
    with pytest.raises(LaunchError, match="is not of execution") as caught:
        await create(api, lookup)
    assert caught.value.outcome is not None
    assert caught.value.outcome.reason is FailureReason.JOB_CREATE


@in_virtual_time
async def test_a_job_that_is_still_being_deleted_is_not_adopted(api: MemoryApi, lookup: Lookup) -> None:
    api.add_job(plan().job, deletionTimestamp="2026-01-01T00:00:00Z")
    with pytest.raises(LaunchError, match="still being deleted") as caught:
        await create(api, lookup)
    assert caught.value.outcome is None


@in_virtual_time
async def test_a_job_that_goes_before_it_is_read_is_created_again(api: MemoryApi, lookup: Lookup) -> None:
    api.fail("POST jobs", Fault(409, "exists"), 2)
    assert not (await create(api, lookup)).adopted
    api.jobs.clear()
    api.fail("POST jobs", Fault(409, "exists"), 3)
    with pytest.raises(LaunchError, match="exists when it is created and does not when it is read"):
        await create(api, lookup)


@in_virtual_time
async def test_a_refusal_after_a_job_that_has_gone_is_believed_at_once(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST jobs", Fault(409, "exists"))
    api.fail("POST jobs", QUOTA)
    with pytest.raises(NoRoomError, match="exceeded quota"):
        await create(api, lookup)
    assert api.requests == ["POST jobs", "GET jobs", "POST jobs"]


@in_virtual_time
async def test_a_job_that_exists_is_read_however_long_that_takes(api: MemoryApi, lookup: Lookup) -> None:
    api.add_job(plan().job)
    api.fail("GET jobs", REFUSED, 100)
    assert (await create(api, lookup)).adopted
    assert elapsed() > 60


# Answers that are lost -------------------------------------------------------------------------


@in_virtual_time
async def test_a_job_whose_answer_was_lost_is_this_worker_s(api: MemoryApi, lookup: Lookup) -> None:
    lookup.objection = "nobody is asked about one's own Job"
    api.fail("POST jobs", LOST_ANSWER)
    created = await create(api, lookup)
    assert (created.job.metadata.uid, created.adopted) == ("uid-1", False)
    assert api.requests == ["POST jobs", "POST jobs", "GET jobs"]


@in_virtual_time
async def test_a_job_that_may_exist_is_asked_for_however_long_it_takes(
    api: MemoryApi, lookup: Lookup, caplog: pytest.LogCaptureFixture
) -> None:
    api.fail("POST jobs", LOST_ANSWER)
    api.fail("POST jobs", REFUSED, 200)
    api.fail("GET jobs", REFUSED, 100)
    assert not (await create(api, lookup)).adopted
    assert elapsed() > 120
    assert [r.getMessage() for r in caplog.records if "not known whether" in r.getMessage()] != []


@pytest.mark.parametrize(
    "lost",
    [
        Fault(),
        Fault(504, "Timeout: request did not complete within requested timeout", "Timeout"),
        Fault(500, "etcdserver: request timed out", "InternalError"),
        Fault(503, "no healthy upstream"),
    ],
    ids=["no answer", "504", "etcd", "a proxy"],
)
@in_virtual_time
async def test_a_read_settles_a_lost_creation_after_the_patience(
    api: MemoryApi, lookup: Lookup, lost: Fault
) -> None:
    """K5: not before the API server has given up the last request that was lost."""
    api.fail("POST jobs", lost, 1000)
    with pytest.raises(LaunchError, match="could not be created") as caught:
        await create(api, lookup)
    assert caught.value.outcome is None
    posted = api.requests.count("POST jobs")
    assert posted < 40
    assert api.requests[posted:] == ["GET jobs"] * (len(api.requests) - posted)
    assert 65.0 + 20.0 < elapsed() < 65.0 + 30.0 + 5.0


@in_virtual_time
async def test_a_job_that_a_lost_request_creates_late_is_found(api: MemoryApi, lookup: Lookup) -> None:
    """K5: an API server may carry out what its client has given up."""
    api.fail("POST jobs", Fault(), 1000)
    planned = plan()
    asyncio.get_running_loop().call_later(80.0, lambda: api.add_job(planned.job))
    assert (await create(api, lookup, planned)).job.metadata.uid == "uid-1"
    assert elapsed() < 86.0


@in_virtual_time
async def test_the_watch_may_know_of_the_job_first(api: MemoryApi, lookup: Lookup) -> None:
    planned = plan()

    def time_out() -> Exception:
        lookup.watched = job_view(api.jobs[planned.name])
        return TimeoutError()

    api.fail("POST jobs", Fault(done=True, error=time_out))
    created = await create(api, lookup, planned)
    assert (created.job.metadata.uid, api.requests) == ("uid-1", ["POST jobs"])


@in_virtual_time
async def test_a_job_of_the_name_that_the_watch_knew_before_proves_nothing(
    api: MemoryApi, lookup: Lookup
) -> None:
    lookup.watched = job_view({**plan().job, "metadata": {**plan().job["metadata"], "uid": "old"}})
    api.fail("POST jobs", Fault())
    assert (await create(api, lookup)).job.metadata.uid == "uid-1"
    assert api.requests == ["POST jobs", "POST jobs"]


@in_virtual_time
async def test_a_refusal_after_a_lost_answer_may_be_the_effect_of_the_own_job(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST jobs", LOST_ANSWER)
    api.fail("POST jobs", QUOTA)
    assert (await create(api, lookup)).job.metadata.uid == "uid-1"
    assert api.requests == ["POST jobs", "POST jobs", "GET jobs"]


@pytest.mark.parametrize("fault", [QUOTA, Fault(422, "spec is not valid")], ids=["quota", "invalid"])
@in_virtual_time
async def test_a_refusal_after_a_lost_answer_is_believed_once_no_job_can_come(
    api: MemoryApi, lookup: Lookup, fault: Fault
) -> None:
    api.fail("POST jobs", Fault())
    api.fail("POST jobs", fault)
    api.fail("GET jobs", Fault(422, "unreadable"))
    with pytest.raises(LaunchError, match=fault.message[-10:]):
        await create(api, lookup)
    assert api.requests.count("POST jobs") == 2
    assert 65.0 < elapsed() < 75.0


# Refusals and patience -------------------------------------------------------------------------


@in_virtual_time
async def test_a_refusal_fails_the_task_with_the_server_s_message(api: MemoryApi, lookup: Lookup) -> None:
    api.fail("POST jobs", Fault(422, "spec is not valid"))
    with pytest.raises(LaunchError, match=r"^The API server refused the Job: spec is not valid$") as caught:
        await create(api, lookup)
    assert caught.value.outcome is not None
    assert caught.value.outcome.reason is FailureReason.JOB_CREATE
    assert (api.requests, elapsed()) == (["POST jobs"], 0.0)


@in_virtual_time
async def test_two_creations_that_meet_at_a_quota_are_decided_by_another_attempt(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST jobs", Fault(409, "the ResourceQuota was modified", "Conflict"), 5)
    assert not (await create(api, lookup)).adopted
    assert api.requests == ["POST jobs"] * 6


@in_virtual_time
async def test_retry_after_is_the_least_pause(api: MemoryApi, lookup: Lookup) -> None:
    api.fail("POST jobs", Fault(429, "too many requests", retry_after="7"))
    await create(api, lookup)
    assert 7.0 <= elapsed() < 8.0


#: The API server's answers for webhooks that cannot be called, and others before anything is stored.
WEBHOOK = (
    'Internal error occurred: failed calling webhook "%s": failed to call webhook: Post "https://hook.ns.svc'
    ':443/?timeout=10s": %s'
)
EXPLAINED = {
    "closed port": Fault(500, WEBHOOK % ("a.b.c", "dial tcp 10.0.0.1:443: connect: connection refused")),
    "webhook's time-out": Fault(500, WEBHOOK % ("a.b.c", "context deadline exceeded")),
    "webhook that denies with 503": Fault(503, 'admission webhook "a.b.c" denied the request: starting'),
    "etcd is full": Fault(500, "etcdserver: mvcc: database space exceeded"),
    "plugin": Fault(403, 'jobs.batch "x" is forbidden: not yet ready to handle request'),
    "busy": Fault(429, "busy"),
}


@pytest.mark.parametrize(
    "fault",
    [REFUSED, NO_ROLES_YET, *EXPLAINED.values()],
    ids=["away", "no roles", *EXPLAINED],
)
@in_virtual_time
async def test_a_job_that_was_certainly_not_created_goes_back_to_the_queue(
    api: MemoryApi, lookup: Lookup, fault: Fault
) -> None:
    api.fail("POST jobs", fault, 1000)
    with pytest.raises(LaunchError, match="could not be created") as caught:
        await create(api, lookup)
    assert caught.value.outcome is None
    assert 20.0 < elapsed() <= 30.0
    assert api.requests.count("GET jobs") == 0


@pytest.mark.parametrize("fault", EXPLAINED.values(), ids=EXPLAINED)
@in_virtual_time
async def test_the_server_s_words_are_in_the_log_at_once_and_in_the_error(
    api: MemoryApi, lookup: Lookup, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    """K5: an answer that explains itself is not a lost one."""
    api.fail("POST jobs", fault, 1000)
    creation = asyncio.create_task(create(api, lookup))
    await asyncio.sleep(0.01)
    assert [r.getMessage() for r in caplog.records if fault.message in r.getMessage()] != []
    with pytest.raises(LaunchError) as caught:
        await creation
    assert fault.message in str(caught.value)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    assert "not known whether" not in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, "etcdserver: request is too large", "InternalError"),
        Fault(500, "rpc error: trying to send message larger than max (2,097,200 vs. 2,097,152)"),
        Fault(422, 'Job "x" is invalid: [spec.template.metadata.labels[controller-uid]: Invalid value: {"a'),
        Fault(413, "Request entity too large: limit is 3145728", "RequestEntityTooLarge"),
    ],
    ids=["etcd", "etcd's client", "a second attempt of the API server's", "413"],
)
@in_virtual_time
async def test_a_job_that_is_too_large_fails_the_task_at_once(
    api: MemoryApi, lookup: Lookup, fault: Fault
) -> None:
    """K12: with a reason that says that another try does not help."""
    api.fail("POST jobs", fault)
    with pytest.raises(LaunchError, match="larger than the cluster stores") as caught:
        await create(api, lookup)
    assert caught.value.outcome is not None
    assert caught.value.outcome.reason is FailureReason.TASK_TOO_LARGE
    assert (api.requests, elapsed()) == (["POST jobs"], 0.0)


# Cancellation ----------------------------------------------------------------------------------


def cancel_after(seconds: float) -> asyncio.Event:
    cancelled = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, cancelled.set)
    return cancelled


@pytest.mark.parametrize(
    "fault",
    [EXPLAINED["closed port"], REFUSED, Fault(429, "busy", retry_after="20"), NO_ROLES_YET],
    ids=["webhook", "away", "busy", "no roles"],
)
@in_virtual_time
async def test_a_cancellation_ends_a_creation_at_once(api: MemoryApi, lookup: Lookup, fault: Fault) -> None:
    """K5: even in a long pause; what was certainly not created needs no read."""
    api.fail("POST jobs", fault, 1000)
    with pytest.raises(LaunchError, match="cancelled before") as caught:
        await create(api, lookup, cancelled=cancel_after(3.0))
    assert caught.value.outcome is None
    assert elapsed() == 3.0
    assert api.requests.count("GET jobs") == 0


@in_virtual_time
async def test_a_cancelled_job_that_a_lost_request_has_created_is_found_at_once(
    api: MemoryApi, lookup: Lookup
) -> None:
    """K5: the worker then deletes it."""
    api.fail("POST jobs", LOST_ANSWER)
    api.fail("POST jobs", REFUSED, 1000)
    assert not (await create(api, lookup, cancelled=cancel_after(3.0))).adopted
    assert elapsed() == 3.0


@in_virtual_time
async def test_a_cancelled_job_that_may_still_come_is_waited_for(api: MemoryApi, lookup: Lookup) -> None:
    """K5: nothing is created any more, and what cannot come any more is not waited for."""
    api.fail("POST jobs", Fault())
    api.fail("POST jobs", EXPLAINED["closed port"], 1000)
    cancelled = cancel_after(3.0)
    with pytest.raises(LaunchError, match="cancelled before"):
        await create(api, lookup, cancelled=cancelled)
    assert 65.0 <= elapsed() < 71.0


@in_virtual_time
async def test_a_task_that_is_cancelled_beforehand_is_not_created(api: MemoryApi, lookup: Lookup) -> None:
    """K5: nothing is sent."""
    cancelled = asyncio.Event()
    cancelled.set()
    with pytest.raises(LaunchError, match="cancelled before"):
        await create(api, lookup, cancelled=cancelled)
    assert api.requests == []


@in_virtual_time
async def test_a_server_that_does_not_know_its_roles_yet_is_waited_for(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST jobs", NO_ROLES_YET, 3)
    assert not (await create(api, lookup)).adopted
