"""A Job is created once, or the one that exists is adopted, whatever becomes of the requests."""

import asyncio
import logging
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError
from oz_agent_worker.worker.backends.kubernetes.job_creation import (
    CreatedJob,
    JobLookup,
    create_environment_secret,
    create_or_adopt,
)
from oz_agent_worker.worker.backends.kubernetes.manifest.job import JobPlan, plan_job
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.virtual_time import START, in_virtual_time

from .memory_api import LOST_ANSWER, NO_ROLES_YET, REFUSED, Fault, MemoryApi, connected
from .samples import job_view, task_spec

CONFIG = KubernetesConfig(namespace="agents")
WITH_SECRET = KubernetesConfig(namespace="agents", task_env_secret=True)
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


async def create(api: MemoryApi, lookup: Lookup, planned: JobPlan | None = None) -> CreatedJob:
    return await create_or_adopt(await connected(api), planned or plan(), lookup())


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
    with pytest.raises(LaunchError, match="exceeded quota"):
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
    assert not (await create(api, lookup)).adopted
    assert elapsed() > 120
    assert [r.getMessage() for r in caplog.records if "not known whether" in r.getMessage()] != []


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


@in_virtual_time
async def test_a_refusal_after_a_lost_answer_is_believed_once_no_job_is_found(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST jobs", Fault())
    api.fail("POST jobs", QUOTA, 2)
    api.fail("GET jobs", Fault(422, "unreadable"))
    with pytest.raises(LaunchError, match="exceeded quota") as caught:
        await create(api, lookup)
    assert caught.value.outcome is not None
    assert api.requests == ["POST jobs", "POST jobs", "GET jobs", "POST jobs", "GET jobs"]


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


@pytest.mark.parametrize(
    "fault", [REFUSED, NO_ROLES_YET, Fault(429, "busy")], ids=["away", "no roles", "busy"]
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


@in_virtual_time
async def test_a_server_that_does_not_know_its_roles_yet_is_waited_for(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST jobs", NO_ROLES_YET, 3)
    assert not (await create(api, lookup)).adopted


# The Secret of the variables -------------------------------------------------------------------


async def create_both(api: MemoryApi, lookup: Lookup, planned: JobPlan) -> None:
    client = await connected(api)
    created = await create_or_adopt(client, planned, lookup())
    await create_environment_secret(client, planned, created)


@in_virtual_time
async def test_the_secret_belongs_to_the_job(api: MemoryApi, lookup: Lookup) -> None:
    planned = plan(WITH_SECRET)
    await create_both(api, lookup, planned)
    assert planned.secret_name is not None
    assert api.secrets == {planned.secret_name: planned.environment_secret(planned.secret_name, "uid-1")}


@in_virtual_time
async def test_without_the_setting_there_is_no_secret(api: MemoryApi, lookup: Lookup) -> None:
    await create_both(api, lookup, plan())
    assert api.requests == ["POST jobs"]


@in_virtual_time
async def test_the_secret_of_a_job_is_created_however_long_the_server_is_away(
    api: MemoryApi, lookup: Lookup
) -> None:
    api.fail("POST secrets", REFUSED, 100)
    await create_both(api, lookup, plan(WITH_SECRET))
    assert len(api.secrets) == 1
    assert elapsed() > 120


@in_virtual_time
async def test_without_its_secret_the_job_is_taken_back(api: MemoryApi, lookup: Lookup) -> None:
    api.fail("POST secrets", Fault(403, "exceeded quota: secrets=0"))
    api.fail("DELETE jobs", REFUSED, 3)
    with pytest.raises(LaunchError, match=r"exceeded quota.*the permission to create secrets") as caught:
        await create_both(api, lookup, plan(WITH_SECRET))
    assert caught.value.outcome is not None
    assert (api.jobs, api.secrets) == ({}, {})


@in_virtual_time
async def test_a_job_that_cannot_be_taken_back_is_logged(
    api: MemoryApi, lookup: Lookup, caplog: pytest.LogCaptureFixture
) -> None:
    api.fail("POST secrets", Fault(422, "too large"))
    api.fail("DELETE jobs", Fault(403, "a webhook says no"))
    with pytest.raises(LaunchError, match=r"too large$"):
        await create_both(api, lookup, plan(WITH_SECRET))
    assert "remains although its task was not started" in caplog.text


@in_virtual_time
async def test_an_adopted_job_gets_the_secret_that_it_names(
    api: MemoryApi, lookup: Lookup, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = plan_job(task_spec(), WITH_SECRET, worker_id="w", cleanup=True, unique="dead", owner="gone")
    api.add_job(earlier.job)
    await create_both(api, lookup, plan())  # the setting is off by now
    assert list(api.secrets) == [earlier.secret_name]
    with caplog.at_level(logging.WARNING):
        api.fail("POST secrets", Fault(403, "not any more"))
        await create_both(api, lookup, plan())
    assert "of an adopted Job cannot be created" in caplog.text
    assert len(api.jobs) == 1
