"""kubeconfig files: written for the users of the API tier, read for any cluster."""

import base64
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from .errors import ClusterError

__all__ = ["Connection", "document", "in_namespace", "write"]


def document(
    server: str, authority: bytes | None, user: Mapping[str, Any], namespace: str = "default"
) -> Any:
    """Return a kubeconfig with one context.

    ``authority`` is PEM; ``user`` is the user entry itself, such as ``{"token": …}``.
    """
    cluster: dict[str, Any] = {"server": server}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }


def in_namespace(path: Path, namespace: str) -> Any:
    """Return an existing kubeconfig whose current context has another namespace.

    The files that it names beside itself are named absolutely, so that it can be written elsewhere.
    """
    content = yaml.safe_load(path.read_text())
    _named(content, "contexts", "context", content["current-context"])["namespace"] = namespace
    entries = [item["cluster"] for item in content["clusters"]] + [item["user"] for item in content["users"]]
    for entry in entries:
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if key in entry:
                entry[key] = str(path.parent.absolute() / entry[key])
    return content


def write(path: Path, content: Any) -> Path:
    """Write a kubeconfig that its owner alone can read, whole at every moment, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)
    return Path(name).replace(path)


@dataclass(frozen=True, slots=True)
class Connection:
    """All that it takes to talk to an API server: ``server`` is its URL, ``headers`` carry the token."""

    server: str
    ssl_context: ssl.SSLContext
    headers: Mapping[str, str]
    authority: bytes | None

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Read the current context. Tokens, client certificates and exec plugins are understood."""
        content = yaml.safe_load(path.read_text())
        context = _named(content, "contexts", "context", content["current-context"])
        cluster = _named(content, "clusters", "cluster", context["cluster"])
        user = _named(content, "users", "user", context["user"])
        if "exec" in user:
            user = user | _run_exec_plugin(user["exec"])
        authority = _data(cluster, "certificate-authority", path.parent)
        server = cluster["server"].rstrip("/")
        return cls(
            server, _ssl_context(cluster, authority, user, path.parent), _headers(user, path), authority
        )


def _named(content: Any, plural: str, singular: str, name: str) -> dict[str, Any]:
    for entry in content.get(plural) or []:
        if entry["name"] == name:
            found: dict[str, Any] = entry[singular]
            return found
    raise ClusterError(f"the kubeconfig has no {singular} named {name!r}")


def _data(entry: Mapping[str, Any], key: str, folder: Path) -> bytes | None:
    """Return the base64 data under ``KEY-data``, or the content of the file that ``KEY`` names."""
    if inline := entry.get(f"{key}-data"):
        return base64.b64decode(inline)
    name: str | None = entry.get(key)
    if name:
        return folder.joinpath(name).read_bytes()
    return None


def _ssl_context(
    cluster: Mapping[str, Any], authority: bytes | None, user: Mapping[str, Any], folder: Path
) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _data(user, "client-certificate", folder)
    key = _data(user, "client-key", folder)
    if certificate and key:
        # OpenSSL takes a chain from files alone.
        with tempfile.NamedTemporaryFile(suffix=".pem") as both:
            both.write(certificate + b"\n" + key)
            both.flush()
            context.load_cert_chain(both.name)
    return context


def _headers(user: Mapping[str, Any], path: Path) -> dict[str, str]:
    token = user.get("token")
    if not token and (name := user.get("tokenFile")):
        token = (path.parent / name).read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _run_exec_plugin(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """Run a credential plugin (client.authentication.k8s.io) and return its answer as a user entry."""
    environment = os.environ | {item["name"]: item["value"] for item in plugin.get("env") or []}
    info = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(info)
    command = [plugin["command"], *(plugin.get("args") or [])]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True)
    status = json.loads(answer.stdout)["status"]
    found: dict[str, Any] = {}
    if "token" in status:
        found["token"] = status["token"]
    for key, answered in (("client-certificate", "clientCertificateData"), ("client-key", "clientKeyData")):
        if answered in status:
            found[f"{key}-data"] = base64.b64encode(status[answered].encode()).decode()
    return found
