"""K14: what kubectl takes in a kubeconfig is taken, or refused by its name; held against kubectl itself."""

import base64
import copy
import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import CredentialsError, load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.api.retry import ONCE
from oz_agent_worker.worker.backends.kubernetes.api.server_info import read_server_info
from tests.cluster import kubeconfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.certificates import Authority
from tests.cluster.helm import helm_programs
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.backends.kubernetes.tls_server import write_pair

pytestmark = pytest.mark.cluster

EXEC_GROUP = "client.authentication.k8s.io"
EXEC = {"apiVersion": f"{EXEC_GROUP}/v1", "command": "./login", "interactiveMode": "Never"}


@dataclass(frozen=True)
class Case:
    """Fields of the cluster and the user, ``{…}`` in them filled in; ``None`` takes a field away.

    ``kubectl`` and ``ours``: whether each reads ``/version`` with it. ``says`` is in our refusal.
    """

    cluster: Mapping[str, Any] = field(default_factory=dict)
    user: Mapping[str, Any] = field(default_factory=dict)
    kubectl: bool = True
    ours: bool = True
    says: str = ""


def refused(
    says: str, cluster: Mapping[str, Any] | None = None, user: Mapping[str, Any] | None = None
) -> Case:
    """A case that neither takes."""
    return Case(cluster or {}, user or {}, kubectl=False, ours=False, says=says)


def with_exec(says: str = "", *, kubectl: bool = True, **fields: Any) -> Case:
    """A case with an exec plugin that has these fields; with ``says`` neither takes it."""
    plugin = {name: value for name, value in {**EXEC, **fields}.items() if value is not None}
    user = {"token": None, "exec": plugin}
    return refused(says, user=user) if says else Case(user=user, kubectl=kubectl)


CA_FILE = {"certificate-authority": "ca.crt", "certificate-authority-data": None}
CERTIFICATE = {"token": None, "client-certificate": "me.crt", "client-key": "me.key"}
CASES = {
    "as it is": Case(),
    "authority file": Case(CA_FILE),
    "authority of another": refused("verified against", {"certificate-authority-data": "{other}"}),
    "authority twice": Case({"certificate-authority": "ca.crt"}, kubectl=False),
    "insecure": Case({"certificate-authority-data": None, "insecure-skip-tls-verify": True}),
    "insecure with an authority": refused("contradict each other", {"insecure-skip-tls-verify": True}),
    "server's name": Case(
        {"server": "https://localhost:{port}", "tls-server-name": "kubernetes.default.svc"}
    ),
    "server's wrong name": refused("elsewhere", {"tls-server-name": "elsewhere"}),
    "server with a slash": Case({"server": "https://127.0.0.1:{port}/"}),
    "server in upper case": Case({"server": "HTTPS://127.0.0.1:{port}"}),
    "server without a scheme": refused("write https://127.0.0.1", {"server": "127.0.0.1:{port}"}),
    "server with a path, without a scheme": refused("must be an address", {"server": "127.0.0.1:{port}/a"}),
    "no server": refused("has no server", {"server": None}),
    "proxy without a scheme": refused("has no scheme; begin it with", {"proxy-url": "127.0.0.1:1"}),
    "proxy socks5h": refused("a SOCKS proxy", {"proxy-url": "socks5h://127.0.0.1:1"}),
    "proxy socks5 that is away": refused("a SOCKS proxy", {"proxy-url": "socks5://127.0.0.1:1"}),
    "proxy that is away": refused("the proxy http://127.0.0.1:1", {"proxy-url": "http://127.0.0.1:1"}),
    "token file": Case(user={"token": None, "tokenFile": "token"}),
    "token file that is away, and a token": Case(user={"tokenFile": "none"}),
    "token file that is away": refused("cannot be read", user={"token": None, "tokenFile": "none"}),
    "certificate files": Case(user=CERTIFICATE),
    "certificate twice": Case(user={**CERTIFICATE, "client-certificate-data": "{crt}"}, kubectl=False),
    "certificate without a key": refused("but no client-key", user={**CERTIFICATE, "client-key": None}),
    "certificate and token": Case(user={**CERTIFICATE, "token": "{token}"}),
    "token and password": refused("only one may be set", user={"username": "me", "password": "hunter2"}),
    "another user": Case(
        user={"as": "worker", "token": "{admin}"}, ours=False, says="impersonates another user"
    ),
    "another user's groups alone": refused("impersonates", user={"as-groups": ["g"]}),
    "auth-provider": refused("removed in 1.26", user={"auth-provider": {"name": "gcp"}}),
    "exec": with_exec(),
    "exec without a mode": with_exec(interactiveMode=None, kubectl=False),
    "exec of the beta": with_exec(apiVersion=f"{EXEC_GROUP}/v1beta1", args=["v1beta1"]),
    "exec of the alpha": with_exec("update the plugin", apiVersion=f"{EXEC_GROUP}/v1alpha1"),
    "exec that asks": with_exec("no terminal", interactiveMode="Always"),
    "exec of another mode": with_exec("must be Never", interactiveMode="Sometimes"),
    "exec that is away": with_exec("brew install it", command="./none", installHint="brew install it"),
    "exec that wants the cluster": with_exec(provideClusterInfo=True),
    "exec with a variable without a name": with_exec("env has the name", env=[{"name": "", "value": "x"}]),
    "exec beside a token": Case(user={"exec": {**EXEC, "command": "./none"}}),
    "exec beside a certificate": Case(user={**CERTIFICATE, "exec": {**EXEC, "command": "./none"}}),
}


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return helm_programs().kubectl


def write_case(tier: ApiTier, folder: Path, case: Case) -> Path:
    """Write the kubeconfig of a case, with the files that it may name."""
    pair = tier.client_certificate("worker")
    write_pair(pair, folder, "me")
    (folder / "ca.crt").write_bytes(tier.authority)
    (folder / "token").write_text(tier.token("worker"))
    script = folder / "login"
    answer = f'{{"apiVersion":"{EXEC_GROUP}/%s","kind":"ExecCredential","status":{{"token":"%s"}}}}'
    script.write_text(f"#!/bin/sh\nprintf '{answer}' \"${{1:-v1}}\" {tier.token('worker')}\n")
    script.chmod(stat.S_IRWXU)
    values = {
        "port": str(tier.layout.apiserver_port),
        "token": tier.token("worker"),
        "admin": tier.token("admin"),
        "crt": base64.b64encode(pair.certificate).decode(),
        "other": base64.b64encode(Authority.create("other").certificate).decode(),
    }

    def merge(into: dict[str, Any], fields: Mapping[str, Any]) -> None:
        for name, value in copy.deepcopy(dict(fields)).items():
            if value is None:
                into.pop(name, None)
            else:
                into[name] = value.format(**values) if isinstance(value, str) else value

    content = kubeconfig.document(tier.server, tier.authority, {"token": tier.token("worker")})
    merge(content["clusters"][0]["cluster"], case.cluster)
    merge(content["users"][0]["user"], case.user)
    return kubeconfig.write(folder / "config", content)


def run_kubectl(
    kubectl: Path, *arguments: str, folder: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run kubectl without a terminal and without this machine's settings."""
    return subprocess.run(
        [kubectl, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=HANG_TIMEOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environ},
    )


async def our_refusal(path: Path) -> str:
    """Read ``/version`` as the worker does; return why that failed, empty where it did not."""
    settings = ClientSettings(connect_timeout=HANG_TIMEOUT, request_timeout=HANG_TIMEOUT)
    try:
        async with KubernetesClient(load_credentials(str(path), environ={}), settings=settings) as client:
            await read_server_info(client, ONCE)
    except (CredentialsError, ApiError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_k14_what_kubectl_takes_is_taken_or_refused_by_its_name(
    case: Case, api_tier: ApiTier, tmp_path: Path, kubectl: Path
) -> None:
    path = write_case(api_tier, tmp_path, case)
    theirs = run_kubectl(kubectl, f"--kubeconfig={path}", "get", "--raw", "/version", folder=tmp_path)
    assert (theirs.returncode == 0) is case.kubectl, theirs.stderr
    refusal = await our_refusal(path)
    assert (not refusal) is case.ours, refusal
    assert case.says in refusal
    assert api_tier.token("worker") not in refusal


def test_k14_several_files_are_merged_as_kubectl_merges_them(
    api_tier: ApiTier, tmp_path: Path, kubectl: Path
) -> None:
    def write(name: str, **content: Any) -> Path:
        (tmp_path / name).mkdir()
        for key in ("clusters", "users", "contexts"):
            singular = key[:-1]
            items = content.get(key, {})
            content[key] = [{"name": item, singular: fields} for item, fields in items.items()]
        document = {"apiVersion": "v1", "kind": "Config", **content}
        return kubeconfig.write(tmp_path / name / "config", document)

    one = write(
        "one",
        contexts={"c": {"cluster": "k", "user": "u"}},
        users={"u": {"username": "first"}},
    )
    two = write(
        "two",
        **{"current-context": "c"},
        contexts={"c": {"cluster": "other", "user": "other", "namespace": "second"}},
        clusters={"k": {"server": "https://second:1", "certificate-authority": "ca.crt"}},
        users={"u": {"username": "second", "password": "second"}},
    )
    three = write(
        "three",
        **{"current-context": "d"},
        clusters={"k": {"server": "https://third:1", "tls-server-name": "third"}},
    )
    listed = f"{tmp_path}/none/config:{one}:{two}::{three}"
    shown = run_kubectl(
        kubectl, "config", "view", "--minify", "--raw", "-o",
        "jsonpath={.current-context} {.clusters[0].cluster} {.users[0].user} {.contexts[0].context}",
        folder=tmp_path, KUBECONFIG=listed,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == (
        'c {"certificate-authority":"ca.crt","server":"https://second:1"}'
        ' {"username":"first"} {"cluster":"k","user":"u"}'
    )
    found = load_credentials(None, environ={"KUBECONFIG": listed})
    assert (found.server, found.tls_server_name, found.namespace) == ("https://second:1", None, None)
    assert found.trust == f"cluster 'k': certificate-authority {tmp_path}/two/ca.crt"
    assert found.description == f'context "c" of {one}'
