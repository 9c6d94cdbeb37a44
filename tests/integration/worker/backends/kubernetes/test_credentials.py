"""Every kind of credentials, against a real API server, which returns the caller's user name."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from oz_agent_worker.worker.backends.kubernetes.api.credentials import Credentials, load_credentials
from tests.cluster import kubeconfig
from tests.cluster.api_tier import ApiTier

pytestmark = pytest.mark.cluster

EXEC_VERSION = "client.authentication.k8s.io/v1"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def load(tier: ApiTier, folder: Path, user: dict[str, Any]) -> Credentials:
    path = kubeconfig.write(folder / "config", kubeconfig.document(tier.server, tier.authority, user))
    return load_credentials(str(path), environ={})


async def known_as(credentials: Credentials, *, force_refresh: bool = False) -> str:
    """Read ``/version`` and return the user name that the server gives to who asks."""
    headers = await credentials.headers(force_refresh)
    context = credentials.ssl_context()
    assert context is not None
    async with aiohttp.ClientSession(
        headers=headers, connector=aiohttp.TCPConnector(ssl=context), raise_for_status=True
    ) as session:
        async with session.get(f"{credentials.server}/version") as response:
            assert (await response.json())["major"] == "1"
        reviews = f"{credentials.server}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        async with session.post(reviews, json=REVIEW) as response:
            name: str = (await response.json())["status"]["userInfo"]["username"]
    return name


def write_plugin(folder: Path, status: dict[str, str]) -> dict[str, Any]:
    """Write an exec plugin that gives ``status``; return the user entry for it."""
    answer = folder / "answer.json"
    answer.write_text(json.dumps({"apiVersion": EXEC_VERSION, "kind": "ExecCredential", "status": status}))
    script = folder / "login"
    script.write_text(f"#!/bin/sh\nexec /bin/cat '{answer}'\n")
    script.chmod(stat.S_IRWXU)
    return {"exec": {"apiVersion": EXEC_VERSION, "command": "./login", "interactiveMode": "Never"}}


async def test_a_token(api_tier: ApiTier, tmp_path: Path) -> None:
    assert await known_as(load(api_tier, tmp_path, {"token": api_tier.token("worker")})) == "worker"


async def test_a_token_file_that_rotates(api_tier: ApiTier, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{api_tier.token('nobody')}\n")
    credentials = load(api_tier, tmp_path, {"tokenFile": "token"})
    assert await known_as(credentials) == "nobody"
    file.write_text(f"{api_tier.token('worker')}\n")
    assert await known_as(credentials, force_refresh=True) == "worker"


async def test_a_client_certificate(api_tier: ApiTier, tmp_path: Path) -> None:
    pair = api_tier.client_certificate("someone-else")
    inline = {
        "client-certificate-data": base64.b64encode(pair.certificate).decode(),
        "client-key-data": base64.b64encode(pair.key).decode(),
    }
    assert await known_as(load(api_tier, tmp_path, inline)) == "someone-else"


async def test_an_exec_plugin_with_a_token(api_tier: ApiTier, tmp_path: Path) -> None:
    user = write_plugin(tmp_path, {"token": api_tier.token("worker")})
    assert await known_as(load(api_tier, tmp_path, user)) == "worker"


async def test_an_exec_plugin_with_a_certificate(api_tier: ApiTier, tmp_path: Path) -> None:
    pair = api_tier.client_certificate("someone-else")
    status = {"clientCertificateData": pair.certificate.decode(), "clientKeyData": pair.key.decode()}
    assert await known_as(load(api_tier, tmp_path, write_plugin(tmp_path, status))) == "someone-else"


async def test_a_pods_service_account(api_tier: ApiTier, tmp_path: Path, namespace: str) -> None:
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api_tier.client().create(account, {"metadata": {"name": "in-pod"}})
    issued = api_tier.client().create(
        f"{account}/in-pod/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    (tmp_path / "token").write_text(issued["status"]["token"])
    (tmp_path / "ca.crt").write_bytes(api_tier.authority)
    (tmp_path / "namespace").write_text(namespace)
    host, port = api_tier.server.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    credentials = load_credentials(None, environ=environ, service_account=tmp_path)
    assert credentials.namespace == namespace
    assert await known_as(credentials) == f"system:serviceaccount:{namespace}:in-pod"
