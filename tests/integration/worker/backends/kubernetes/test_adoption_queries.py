"""What adoption asks the API server about Secrets, and for how long a refusal may pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes.adoption.liveness import AdoptionQueries, ServerClock
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import ForbiddenError
from oz_agent_worker.worker.backends.kubernetes.objects import JobView

from .api_server import ApiServer, forbidden, says

JOB = msgspec.convert(
    {"metadata": {"name": "j", "annotations": {"oz.warp.dev/environment-secret": "s"}}}, JobView
)


class Clock:
    """Seconds, moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def queries(server: ApiServer, tmp_path: Path, clock: Clock) -> AsyncIterator[AdoptionQueries]:
    async with KubernetesClient(load_credentials(str(server.kubeconfig(tmp_path)), environ={})) as client:
        yield AdoptionQueries(client, "ns", "", ServerClock(clock), clock=clock, patience=20.0)


async def test_a_refusal_is_believed_when_it_has_lasted(
    server: ApiServer, queries: AdoptionQueries, clock: Clock
) -> None:
    server.faults["create", "secrets"].extend([forbidden("create", "secrets")] * 3)
    for clock.now in (100.0, 119.0):
        with pytest.raises(ForbiddenError):
            await queries.secret_exists(JOB)
    clock.now = 120.0
    assert await queries.secret_exists(JOB)
    assert not await queries.secret_exists(JOB)


async def test_what_was_allowed_in_between_begins_the_time_anew(
    server: ApiServer, queries: AdoptionQueries, clock: Clock
) -> None:
    refusal = forbidden("create", "secrets")
    server.faults["create", "secrets"].extend([refusal, says(409, "AlreadyExists"), refusal])
    with pytest.raises(ForbiddenError):
        await queries.secret_exists(JOB)
    clock.now = 130.0
    assert await queries.secret_exists(JOB)
    with pytest.raises(ForbiddenError):
        await queries.secret_exists(JOB)
