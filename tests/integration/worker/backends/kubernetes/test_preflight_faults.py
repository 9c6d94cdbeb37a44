"""The preflight against an API server that is old, and one that misbehaves."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import Preflight, PreflightSettings
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_run import ProbeRunSettings
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .api_server import COMPLETE, ApiServer, Handler, breaks, forbidden, hangs, says
from .worker import PATIENT_PREFLIGHT, QUICK, running_backend

SETTINGS = dataclasses.replace(QUICK, preflight=PATIENT_PREFLIGHT)

Start = Callable[[], Any]


@pytest.fixture
def start(server: ApiServer, tmp_path: Path) -> Start:
    async def begin() -> None:
        async with running_backend(server.kubeconfig(tmp_path), "ns", settings=SETTINGS):
            pass

    return begin


async def finish_preflight(server: ApiServer) -> None:
    """Let the preflight Job complete as soon as it exists."""
    await eventually(lambda: server.names() != [])
    await server.finish(server.names()[0], COMPLETE)


async def test_an_old_server_is_tried_and_not_asked(
    server: ApiServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(start(), finish_preflight(server))
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "does not check the fields" in warning
    assert server.names() == []
    assert server.asked("get", "pods/log") == 1
    assert server.asked("list", "events") >= 1


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("list", "events"), ("get", "pods/log"), ("delete", "jobs"), ("create", "jobs"), ("watch", "pods")],
)
async def test_what_is_refused_when_it_is_tried_is_missing(
    server: ApiServer, start: Start, verb: str, resource: str
) -> None:
    server.faults[verb, resource].extend([forbidden(verb, resource)] * 10)
    with pytest.raises(PreflightError, match=f"{resource}: {verb}") as caught:
        await start()
    assert f'cannot {verb} resource "{resource}"' in str(caught.value)
    assert server.names() == []


async def test_a_server_that_does_not_know_its_roles_yet_is_asked_again(
    server: ApiServer, tmp_path: Path
) -> None:
    for verb, resource in (("list", "events"), ("watch", "pods"), ("create", "jobs")):
        server.faults[verb, resource].extend([forbidden(verb, resource)] * 2)
    patient = dataclasses.replace(
        SETTINGS, preflight=dataclasses.replace(PATIENT_PREFLIGHT, refusal_patience=HANG_TIMEOUT)
    )

    async def start() -> None:
        async with running_backend(server.kubeconfig(tmp_path), "ns", settings=patient):
            pass

    await asyncio.gather(start(), finish_preflight(server))
    assert server.asked("get", "pods/log") == 1  # what was allowed is not asked for again


async def test_a_server_that_is_away_for_a_moment_is_waited_for(server: ApiServer, start: Start) -> None:
    server.faults["get", "version"].extend([says(503, "ServiceUnavailable"), breaks])
    await asyncio.gather(start(), finish_preflight(server))


async def test_a_forbidden_server_version_is_no_failure(server: ApiServer, start: Start) -> None:
    server.faults["get", "version"].append(says(403, "Forbidden", "no"))
    await asyncio.gather(start(), finish_preflight(server))


async def test_a_server_that_stays_unreachable_is_reported(server: ApiServer, tmp_path: Path) -> None:
    server.faults["get", "version"].extend([says(503, "ServiceUnavailable", "etcd is gone")] * 50)
    impatient = dataclasses.replace(SETTINGS, preflight=PreflightSettings(patience=0.5))
    with pytest.raises(PreflightError, match="etcd is gone") as caught:
        async with running_backend(server.kubeconfig(tmp_path), "ns", settings=impatient):
            pass
    assert "kubectl get --raw /readyz" in str(caught.value)


async def test_what_can_only_warn_stops_no_start(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = (await request.json())["spec"]["resourceAttributes"]["namespace"]
        return await (
            says(503, "ServiceUnavailable", "etcd is gone")(request, handler)
            if asked == "elsewhere"
            else handler(request)
        )

    server.faults["create", "selfsubjectaccessreviews"].extend([away] * 100)
    quick = ClientSettings(read=RetryPolicy(budget=0.0))
    async with KubernetesClient(
        load_credentials(str(server.kubeconfig(tmp_path)), environ={}), settings=quick
    ) as client:
        preflight = Preflight(
            KubernetesConfig(namespace="ns"),
            client=client,
            worker_id="w",
            cleanup=True,
            policy=ObservationPolicy(),
            settings=PATIENT_PREFLIGHT,
            environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OZ_POD_NAMESPACE": "elsewhere"},
        )
        await asyncio.gather(preflight.run(), finish_preflight(server))
    assert "could not be asked" in caplog.text
    assert "etcd is gone" in caplog.text


async def test_a_job_that_somebody_deletes_is_reported(server: ApiServer, start: Start) -> None:
    async def delete() -> None:
        await eventually(lambda: server.names() != [])
        await server.remove("jobs", server.names()[0])

    deleting = asyncio.create_task(delete())
    with pytest.raises(PreflightError, match="deleted by somebody else"):
        await start()
    await deleting


async def test_no_pod_and_no_reason(server: ApiServer, tmp_path: Path) -> None:
    probe = ProbeRunSettings(admission=0.3)
    settings = dataclasses.replace(SETTINGS, preflight=PreflightSettings(probe=probe))
    with pytest.raises(PreflightError, match="made no Pod for the preflight Job within"):
        async with running_backend(server.kubeconfig(tmp_path), "ns", settings=settings):
            pass
    assert server.names() == []


async def test_a_webhook_that_fails_once_is_given_time(server: ApiServer, start: Start) -> None:
    cluster_message = (
        'Error creating: Internal error occurred: failed calling webhook "policy.example": timeout'
    )
    await server.put("events", "e", type="Warning", reason="FailedCreate", message=cluster_message)
    await asyncio.gather(start(), finish_preflight(server))


async def test_a_job_that_cannot_be_deleted_is_logged_and_fails_nothing(
    server: ApiServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    # The first is the permission check, with a name that does not exist.
    server.faults["delete", "jobs"].extend([says(404, "NotFound"), says(409, "Conflict")])
    await asyncio.gather(start(), finish_preflight(server))
    assert any("is left behind, and ends by itself" in r.message for r in caplog.records)


async def test_a_server_that_hangs_does_not_keep_an_interrupted_start(
    server: ApiServer, start: Start
) -> None:
    server.faults["get", "jobs"].extend([says(404, "NotFound"), hangs])
    starting = asyncio.create_task(start())
    await eventually(lambda: server.asked("get", "jobs") >= 2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert server.names() == []
