"""K1: authorities and client certificates that are replaced while a real API server is in use.

It has a cluster of its own: for all others that use the shared one, its authority must not change.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import UnauthorizedError, UntrustedServerError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS, Request
from oz_agent_worker.worker.backends.kubernetes.api.retry import ONCE
from tests.cluster import kubeconfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.certificates import Authority
from tests.cluster.kubelet import Kubelet, behaviours
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.backends.kubernetes.tls_server import write_pair

from .worker import running_backend, task

pytestmark = pytest.mark.cluster

PATIENT = ClientSettings(connect_timeout=HANG_TIMEOUT, request_timeout=HANG_TIMEOUT)


class Clock:
    """Epoch seconds that change only when a test moves them."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def tier(api_tier: ApiTier) -> Iterator[ApiTier]:
    """A cluster of this module's own; the shared one shows that there can be one."""
    with ApiTier() as own:
        yield own


@pytest.fixture
def space(tier: ApiTier) -> str:
    return tier.create_namespace()


def write_config(tier: ApiTier, folder: Path, user: dict[str, Any]) -> Path:
    """Write a kubeconfig whose authority is the file ``ca.crt`` beside it."""
    (folder / "ca.crt").write_bytes(tier.authority)
    content = kubeconfig.document(tier.server, None, user)
    content["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    return kubeconfig.write(folder / "config", content)


async def known_as(client: KubernetesClient) -> str:
    """Return the user name that the API server gives to who asks."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    request = Request("create", "selfsubjectreviews", "POST", path, body=json.dumps(review).encode())
    answer = await client.exchange(request, ONCE)
    name: str = json.loads(answer.body)["status"]["userInfo"]["username"]
    return name


@pytest.mark.parametrize("late", [False, True], ids=["the file first", "the server first"])
async def test_k1_a_worker_lives_through_the_rotation_of_the_authority(
    tier: ApiTier, space: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, late: bool
) -> None:
    def kubelet(after: float) -> Kubelet:
        return Kubelet(
            tier.connection("kubelet"),
            behaviours.always(behaviours.succeed(after=after)),
            namespaces=[space],
        )

    path = write_config(tier, tmp_path, {"token": tier.token("worker")})
    new = Authority.create("the next")
    both = tier.authority + new.certificate
    async with running_backend(path, space) as backend:
        async with kubelet(after=0.1):
            before = await backend.launch(task("before"), NoOutput())
            assert (await before.wait()).result is TaskResult.SUCCEEDED
        running = await backend.launch(task("running"), NoOutput())
        if not late:
            (tmp_path / "ca.crt").write_bytes(both)
        await asyncio.to_thread(tier.rotate_authority, new)
        if late:
            await eventually(lambda: caplog.text.count("cannot verify the API server") == 2)
            file = f"it was verified against cluster 'test': certificate-authority {tmp_path}/ca.crt"
            assert caplog.text.count(file) == 2
            (tmp_path / "ca.crt").write_bytes(both)
        async with kubelet(after=0.1):
            after = await backend.launch(task("after"), NoOutput())
            for execution in (running, after):
                assert (await execution.wait()).result is TaskResult.SUCCEEDED
        assert all(watch.alive and not watch.failing_for for watch in backend.watches())
        assert late or "CERTIFICATE_VERIFY_FAILED" not in caplog.text


async def test_k1_a_pods_service_account_follows_the_authority(
    tier: ApiTier, space: str, tmp_path: Path
) -> None:
    account = f"/api/v1/namespaces/{space}/serviceaccounts"
    tier.client().create(account, {"metadata": {"name": "in-pod"}})
    issued = tier.client().create(
        f"{account}/in-pod/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    (tmp_path / "token").write_text(issued["status"]["token"])
    (tmp_path / "ca.crt").write_bytes(tier.authority)
    host, port = tier.server.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    found = load_credentials(None, environ=environ, service_account=tmp_path)
    name = f"system:serviceaccount:{space}:in-pod"
    async with KubernetesClient(found, settings=PATIENT) as client:
        assert await known_as(client) == name
        await asyncio.to_thread(tier.rotate_authority, Authority.create("the next"))
        with pytest.raises(UntrustedServerError, match=f"service account's certificate authority {tmp_path}"):
            await known_as(client)
        (tmp_path / "ca.crt").write_bytes(tier.authority)
        assert await known_as(client) == name, "one request is enough: it reads the file again"


async def test_k1_a_client_certificate_that_is_replaced_and_a_watch_that_lives_on(
    tier: ApiTier, space: str, tmp_path: Path
) -> None:
    clock = Clock()
    write_pair(tier.client_certificate("first", "system:masters"), tmp_path, "me")
    path = write_config(tier, tmp_path, {"client-certificate": "me.crt", "client-key": "me.key"})
    found = load_credentials(str(path), environ={}, clock=clock)
    async with KubernetesClient(found, settings=PATIENT) as client:
        page = await client.list_page(JOBS, space)
        watching = client.watch(
            JOBS,
            space,
            label_selector="",
            resource_version=page.metadata.resource_version or "",
            timeout_seconds=300,
            silence=HANG_TIMEOUT,
        )
        async with watching as chunks:
            assert await known_as(client) == "first"
            write_pair(tier.client_certificate("second", "system:masters"), tmp_path, "me")
            assert await known_as(client) == "first"
            clock.now += 60
            assert await known_as(client) == "second", "no pooled connection keeps the certificate before"
            await client.create_job(space, suspended_job(space))
            assert b'"lives-on"' in await anext(chunks)


async def test_k1_a_certificate_of_another_authority_is_read_again_after_a_401(
    tier: ApiTier, tmp_path: Path
) -> None:
    stranger = Authority.create("a stranger")
    write_pair(stranger.client("first"), tmp_path, "me")
    path = write_config(tier, tmp_path, {"client-certificate": "me.crt", "client-key": "me.key"})
    async with KubernetesClient(load_credentials(str(path), environ={}), settings=PATIENT) as client:
        with pytest.raises(UnauthorizedError):
            await known_as(client)
        write_pair(tier.client_certificate("second"), tmp_path, "me")
        assert await known_as(client) == "second"


def suspended_job(namespace: str) -> dict[str, Any]:
    """A Job that does not run."""
    container = {"name": "c", "image": "busybox"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "lives-on", "namespace": namespace},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
