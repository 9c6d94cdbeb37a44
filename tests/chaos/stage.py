"""What a run plays on: the cluster's namespace, the proxies, the node, and the two programs' settings."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster import kubeconfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.namespaces import RBAC
from tests.cluster.processes import die_with_parent, free_ports
from tests.timeouts import HANG_TIMEOUT

from .processes import ROOT, Kind, python_path
from .proxy import FaultyProxy
from .settings import Settings

__all__ = ["WORKER_ID", "ChaosError", "Stage", "open_stage"]

WORKER_ID: Final = "chaos"

#: Seconds in which a program of the product starts and ends on a quiet machine.
_QUIET_START: Final = 1.0
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")


class ChaosError(Exception):
    """The harness itself cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """``link`` is the proxy between worker and control plane, ``api`` between worker and API server.

    ``record`` is the ledger of what ran; ``folder`` has it, the logs and all state. ``pace`` is how
    many times longer a program takes to start than on a quiet machine, and 1 at least: the lease
    and the harness's own times are so much longer too.
    """

    settings: Settings
    folder: Path
    pace: float
    record: Path
    url: str
    key: str
    link: FaultyProxy
    api: FaultyProxy
    tier: ApiTier | None
    namespace: str
    plane: Kind
    worker: Kind


@asynccontextmanager
async def open_stage(settings: Settings, tier: ApiTier | None, folder: Path) -> AsyncIterator[Stage]:
    """Set everything up but the product's processes.

    Raises:
        ChaosError: something does not start.
    """
    plane_port, link_port, api_port = free_ports(3)
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment["OTEL_SDK_DISABLED"] = "true"
    environment["XDG_STATE_HOME"] = str(folder / "state")
    began = time.monotonic()
    key = await _make_key(environment)
    pace = max(1.0, (time.monotonic() - began) / _QUIET_START)
    namespace = await asyncio.to_thread(_make_namespace, tier) if tier else ""
    record = folder / "ran.jsonl"
    record.touch()
    async with (
        FaultyProxy(link_port, plane_port) as link,
        FaultyProxy(api_port, tier.layout.apiserver_port if tier else 0) as api,
        _node(tier, folder, record, namespace),
    ):
        config = _kubernetes(tier, namespace, api_port) if tier else _direct(folder, record)
        (folder / "worker.yaml").write_text(yaml.safe_dump({"backend": config}))
        plane_arguments = [
            "control-plane", "--port", str(plane_port), "--log-level", "debug",
            "--worker-grace", f"{settings.worker_grace * pace:.0f}s",
        ]  # fmt: skip
        worker_arguments = [
            "--worker-id", WORKER_ID,
            "--config-file", str(folder / "worker.yaml"),
            "--web-socket-url", f"ws://127.0.0.1:{link_port}/api/v1/selfhosted/worker/ws",
            "--server-root-url", f"http://127.0.0.1:{plane_port}",
            "--log-level", "debug",
        ]  # fmt: skip
        worker_environment = {**environment, "WARP_API_KEY": key}
        yield Stage(
            settings=settings,
            folder=folder,
            pace=pace,
            record=record,
            url=f"http://127.0.0.1:{plane_port}",
            key=key,
            link=link,
            api=api,
            tier=tier,
            namespace=namespace,
            plane=Kind("control-plane", plane_arguments, environment, folder),
            worker=Kind("worker", worker_arguments, worker_environment, folder, settings.mutant),
        )
    if tier is not None:
        await asyncio.to_thread(tier.delete_namespace, namespace)


async def _make_key(environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oz_agent_worker", "control-plane", "create-key", "chaos",
        env=dict(environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    if process.returncode != 0:
        raise ChaosError(f"no API key could be made: {err.decode(errors='replace').strip()}")
    return out.decode().strip()


def _make_namespace(tier: ApiTier) -> str:
    """Make a namespace where the worker may create the Secrets of its tasks besides."""
    namespace = tier.create_namespace()
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
    path = f"/apis/{RBAC}/v1/namespaces/{namespace}"
    name = {"name": "secrets"}
    client = tier.client()
    client.create(f"{path}/roles", {"metadata": name, "rules": rules})
    subject = {"apiGroup": RBAC, "kind": "User", "name": "worker"}
    role = {"apiGroup": RBAC, "kind": "Role", "name": "secrets"}
    client.create(f"{path}/rolebindings", {"metadata": name, "roleRef": role, "subjects": [subject]})
    return namespace


def _kubernetes(tier: ApiTier, namespace: str, port: int) -> dict[str, Any]:
    """The worker's backend, whose way to the API server leads through the proxy."""
    user = {"token": tier.token("worker")}
    content = kubeconfig.document(f"https://127.0.0.1:{port}", tier.authority, user, namespace)
    path = kubeconfig.write(tier.layout.kubeconfig(f"worker.{namespace}.chaos"), content)
    section = {
        "namespace": namespace,
        "kubeconfig": str(path),
        "default_image": "chaos.invalid/task:1",
        "unschedulable_timeout": "1s",
        "pull_grace": "1s",
        "task_env_secret": True,
    }
    return {"kubernetes": section}


def _direct(folder: Path, record: Path) -> dict[str, Any]:
    agent = folder / "agent"
    agent.write_text(
        f'#!/bin/sh\nPYTHONPATH={python_path()} exec {sys.executable} -m tests.chaos.agent {record} "$@"\n'
    )
    agent.chmod(0o700)
    return {"direct": {"workspace_root": str(folder / "workspaces"), "oz_path": str(agent)}}


@asynccontextmanager
async def _node(tier: ApiTier | None, folder: Path, record: Path, namespace: str) -> AsyncIterator[None]:
    """Run the played node for the time of the block; without a cluster there is none."""
    if tier is None:
        yield
        return
    log = os.open(folder / "node.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.node", str(tier.kubeconfig("kubelet")), str(record), namespace,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=ROOT,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    os.close(log)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(HANG_TIMEOUT):
            if not await process.stdout.readline():
                raise ChaosError("the played node did not start")
        yield
        if process.returncode is not None:
            raise ChaosError(f"the played node has ended with exit code {process.returncode}")
    finally:
        with contextlib.suppress(ConnectionError):
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
