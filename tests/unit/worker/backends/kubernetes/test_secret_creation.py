"""The Secret of a task's variables is created after its Job, or the Job is taken back."""

import logging

import pytest

from oz_agent_worker.worker.backends.base import LaunchError
from oz_agent_worker.worker.backends.kubernetes.job_creation import NoRoomError, create_or_adopt
from oz_agent_worker.worker.backends.kubernetes.manifest.job import JobPlan, plan_job
from oz_agent_worker.worker.backends.kubernetes.secret_creation import create_environment_secret
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.virtual_time import in_virtual_time

from .memory_api import REFUSED, Fault, MemoryApi, connected
from .samples import task_spec
from .test_job_creation import EXPLAINED, Lookup, cancel_after, elapsed, plan

WITH_SECRET = KubernetesConfig(namespace="agents", task_env_secret=True)


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
def lookup() -> Lookup:
    return Lookup()


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
    api.fail("POST secrets", REFUSED, 400)
    await create_both(api, lookup, plan(WITH_SECRET))
    assert len(api.secrets) == 1
    assert elapsed() > 120


@in_virtual_time
async def test_without_its_secret_the_job_is_taken_back(api: MemoryApi, lookup: Lookup) -> None:
    api.fail("POST secrets", Fault(403, 'User "w" cannot create resource "secrets"'), 100)
    api.fail("DELETE jobs", REFUSED, 3)
    with pytest.raises(LaunchError, match=r"cannot create.*the permission to create secrets") as caught:
        await create_both(api, lookup, plan(WITH_SECRET))
    assert caught.value.outcome is not None
    assert (api.jobs, api.secrets) == ({}, {})


@in_virtual_time
async def test_a_quota_without_room_for_the_secret_takes_the_job_back(api: MemoryApi, lookup: Lookup) -> None:
    """K11: a Job whose Pod cannot start must not hold room of its own while it waits."""
    api.fail("POST secrets", Fault(403, "secrets is forbidden: exceeded quota: q, used: count/secrets=2"))
    with pytest.raises(NoRoomError, match="count/secrets=2") as caught:
        await create_both(api, lookup, plan(WITH_SECRET))
    assert caught.value.outcome is None
    assert (api.jobs, api.secrets) == ({}, {})


@pytest.mark.parametrize("fault", EXPLAINED.values(), ids=EXPLAINED)
@in_virtual_time
async def test_an_explained_refusal_of_the_secret_takes_the_job_back_after_the_patience(
    api: MemoryApi, lookup: Lookup, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """K5: the task goes back to the queue, with the server's words."""
    api.fail("POST secrets", fault, 1000)
    with pytest.raises(LaunchError) as caught:
        await create_both(api, lookup, plan(WITH_SECRET))
    assert fault.message in str(caught.value)
    assert caught.value.outcome is None
    assert (api.jobs, api.secrets) == ({}, {})
    assert 25.0 < elapsed() < 45.0
    assert len([r for r in caplog.records if fault.message in r.getMessage()]) == 1


@in_virtual_time
async def test_a_job_whose_deletion_a_webhook_hinders_is_left_after_the_patience(
    api: MemoryApi, lookup: Lookup, caplog: pytest.LogCaptureFixture
) -> None:
    """K5: without its Secret it starts nothing."""
    api.fail("POST secrets", Fault(422, "invalid"))
    api.fail("DELETE jobs", EXPLAINED["closed port"], 1000)
    with pytest.raises(LaunchError, match="invalid"):
        await create_both(api, lookup, plan(WITH_SECRET))
    assert "remains although its task was not started" in caplog.text
    assert elapsed() < 45.0


@in_virtual_time
async def test_a_cancellation_ends_the_retries_of_the_secret(api: MemoryApi, lookup: Lookup) -> None:
    """K5: the worker then deletes the Job."""
    api.fail("POST secrets", REFUSED, 1000)
    client = await connected(api)
    planned = plan(WITH_SECRET)
    created = await create_or_adopt(client, planned, lookup())
    await create_environment_secret(client, planned, created, cancel_after(20.0))
    assert 20.0 <= elapsed() < 31.0
    assert api.secrets == {}


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
