"""The way to the API server through a proxy that the kubeconfig or the environment names."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import UnreachableError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.api.retry import ONCE, RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.api.server_info import read_server_info
from tests.cluster import kubeconfig
from tests.cluster.api_tier import ApiTier
from tests.integration.connect_proxy import ConnectProxy
from tests.timeouts import HANG_TIMEOUT

from .api_server import ApiServer

LOGIN = "me:hunter2"
HEADER = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"


def client(path: Path, environ: Mapping[str, str]) -> KubernetesClient:
    settings = ClientSettings(
        connect_timeout=HANG_TIMEOUT, request_timeout=HANG_TIMEOUT, read=RetryPolicy(budget=0.0)
    )
    return KubernetesClient(load_credentials(str(path), environ=environ), settings=settings)


def elsewhere(tier: ApiTier, folder: Path, **cluster: str) -> Path:
    """A kubeconfig for the API server under a name that leads nowhere without a proxy."""
    server = f"https://k8s.invalid:{tier.layout.apiserver_port}"
    content: dict[str, Any] = kubeconfig.document(server, tier.authority, {"token": tier.token("worker")})
    content["clusters"][0]["cluster"] |= {"tls-server-name": "kubernetes.default.svc", **cluster}
    return kubeconfig.write(folder / "config", content)


@pytest.mark.cluster
@pytest.mark.parametrize("named_by", ["HTTPS_PROXY", "https_proxy", "proxy-url"])
async def test_tls_goes_through_a_tunnel_that_serves_many_requests(
    api_tier: ApiTier, tmp_path: Path, named_by: str
) -> None:
    port = api_tier.layout.apiserver_port
    async with ConnectProxy(port, login=HEADER) as proxy:
        url = proxy.url_with(LOGIN)
        in_file = named_by == "proxy-url"
        path = elsewhere(api_tier, tmp_path, **({named_by: url} if in_file else {}))
        # The kubeconfig's proxy wins over the environment's, which would lead nowhere.
        environ = {"HTTPS_PROXY": "http://proxy.invalid:1"} if in_file else {named_by: url}
        async with client(path, environ) as api:
            versions = {(await read_server_info(api)).version for _ in range(3)}
    assert len(versions) == 1
    assert proxy.asked == [f"CONNECT k8s.invalid:{port} HTTP/1.1"]
    assert proxy.logins == [HEADER]


@pytest.mark.cluster
async def test_a_watch_goes_through_the_tunnel_too(api_tier: ApiTier, namespace: str, tmp_path: Path) -> None:
    async with (
        ConnectProxy(api_tier.layout.apiserver_port) as proxy,
        client(elsewhere(api_tier, tmp_path), {"HTTPS_PROXY": proxy.url}) as api,
    ):
        page = await api.list_page(JOBS, namespace)
        watching = api.watch(
            JOBS,
            namespace,
            label_selector="",
            resource_version=page.metadata.resource_version or "",
            timeout_seconds=1,
            silence=10.0,
        )
        async with watching as chunks:
            assert [chunk async for chunk in chunks] == []
    assert proxy.asked


@pytest.mark.cluster
async def test_what_no_proxy_names_and_loopback_are_asked_directly(api_tier: ApiTier, tmp_path: Path) -> None:
    async with ConnectProxy(api_tier.layout.apiserver_port) as proxy:
        async with client(api_tier.kubeconfig("worker"), {"HTTPS_PROXY": proxy.url}) as api:
            assert (await read_server_info(api)).version
        exempt = {"HTTPS_PROXY": proxy.url, "NO_PROXY": ".invalid"}
        async with client(elsewhere(api_tier, tmp_path), exempt) as api:
            with pytest.raises(UnreachableError, match=r"k8s\.invalid") as caught:
                await read_server_info(api, ONCE)
    assert "proxy" not in str(caught.value)
    assert proxy.asked == []


def at_a_name(server: ApiServer, folder: Path) -> Path:
    """A kubeconfig for the scripted server, without TLS, under a name that leads nowhere."""
    path = server.kubeconfig(folder)
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"]["server"] = "http://k8s.invalid"
    path.write_text(yaml.safe_dump(document))
    return path


async def test_without_tls_the_proxy_is_asked_for_the_whole_address(
    server: ApiServer, tmp_path: Path
) -> None:
    async with (
        ConnectProxy(int(server.url.rpartition(":")[2]), login=HEADER) as proxy,
        client(at_a_name(server, tmp_path), {"HTTP_PROXY": proxy.url_with(LOGIN)}) as api,
    ):
        assert (await read_server_info(api)).version == server.version
    assert proxy.asked == ["GET http://k8s.invalid/version HTTP/1.1"]


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (None, "answers HTTP 407 Proxy Authentication Required"),
        ("503 Service Unavailable", "answers HTTP 503 Service Unavailable"),
    ],
)
async def test_a_proxy_that_refuses_is_named_without_its_login(
    tmp_path: Path, refusal: str | None, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = kubeconfig.write(
        tmp_path / "config", kubeconfig.document("https://k8s.invalid:6443", None, {"token": "t"})
    )
    async with (
        ConnectProxy(login="Basic other", refusal=refusal) as proxy,
        client(path, {"HTTPS_PROXY": proxy.url_with(LOGIN)}) as api,
    ):
        with pytest.raises(UnreachableError) as caught:
            await read_server_info(api, ONCE)
    assert f"the proxy {proxy.url} (HTTPS_PROXY) {message}" in str(caught.value)
    assert not caught.value.ambiguous
    assert proxy.logins == [HEADER]
    for shown in (str(caught.value), repr(caught.value), str(caught.value.__cause__), caplog.text):
        assert all(secret not in shown for secret in ("hunter2", HEADER))


async def test_a_proxy_that_is_away_is_named(tmp_path: Path) -> None:
    path = kubeconfig.write(
        tmp_path / "config", kubeconfig.document("https://k8s.invalid:6443", None, {"token": "t"})
    )
    async with client(path, {"HTTPS_PROXY": "http://me:hunter2@127.0.0.1:9"}) as api:
        with pytest.raises(UnreachableError) as caught:
            await read_server_info(api, ONCE)
    assert caught.value.cause.startswith("the proxy http://127.0.0.1:9 (HTTPS_PROXY) cannot be reached: ")
    assert "hunter2" not in str(caught.value)
