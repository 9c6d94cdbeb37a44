"""Tasks whose agent is a script, workers that take them, and the processes that come of them."""

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from oz_agent_worker.core import wire
from oz_agent_worker.core.secret import Secret
from tests.cluster.node.images import AGENT_IMAGE, BUSYBOX_IMAGE
from tests.cluster.nodetier import NodeTier
from tests.e2e.peer import Peer
from tests.integration.programs import BIN, Program, environment, program

__all__ = ["config_file", "failed_start", "processes_of", "script_task", "send_signal", "worker_of"]

WORKER_ID: Final = "e2e"


def script_task(
    script: str,
    *,
    image: str = BUSYBOX_IMAGE,
    agent: str | None = AGENT_IMAGE,
    sidecars: Sequence[wire.SidecarImage] = (),
    vcpus: int | None = None,
    **env: str,
) -> wire.TaskAssignment:
    """Return an assignment whose agent runs a POSIX script in the task's image."""
    task_id = f"task-{secrets.token_hex(4)}"
    return wire.TaskAssignment(
        task_id=task_id,
        task=wire.Task(id=task_id, title="A script", task_definition=wire.TaskDefinition(prompt=script)),
        docker_image=image,
        sidecar_image=agent,
        additional_sidecars=list(sidecars),
        instance_shape=wire.InstanceShape(vcpus=vcpus) if vcpus else None,
        env_vars={"OZ_TEST_SCRIPT": Secret(script), **{name: Secret(text) for name, text in env.items()}},
    )


def config_file(node_tier: NodeTier, namespace: str, folder: Path, **section: Any) -> Path:
    """Write a worker's config file: the user ``worker`` in a namespace, with the node's own images."""
    path = folder / f"worker.{namespace}.json"
    kubernetes = {
        "namespace": namespace,
        "kubeconfig": str(node_tier.api.kubeconfig("worker", namespace)),
        "default_image": BUSYBOX_IMAGE,
        "preflight_image": BUSYBOX_IMAGE,
        **section,
    }
    path.write_text(json.dumps({"worker_id": WORKER_ID, "backend": {"kubernetes": kubernetes}}))
    return path


@contextmanager
def worker_of(peer: Peer, config: Path) -> Iterator[Program]:
    """Run a worker of that peer until it listens, and on; at the end, print its log for whoever needs it."""
    command = [str(BIN / "oz-agent-worker"), "--config-file", str(config), *peer.flags]
    with program(command, environment(config.parent, WARP_API_KEY=peer.key)) as running:
        try:
            running.wait_for("Listening for tasks", timeout=90.0)
            yield running
        finally:
            print(running.text)


def failed_start(peer: Peer, config: Path) -> tuple[int | None, str]:
    """Run a worker that should not come to listen; return its exit code and its last words.

    The exit code is None where it listens all the same.
    """
    command = [str(BIN / "oz-agent-worker"), "--config-file", str(config), *peer.flags]
    with program(command, environment(config.parent, WARP_API_KEY=peer.key)) as running:
        deadline = time.monotonic() + 120
        while running.process.poll() is None and "Listening for tasks" not in running.text:
            assert time.monotonic() < deadline, f"neither listens nor ends: {running.text}"
            time.sleep(0.1)
        code = running.process.poll()
    return code, "\n".join(line for line in running.lines if " INFO " not in line)


def processes_of(task_id: str) -> list[int]:
    """The processes, as the machine counts, of a task's containers: its run stands in their environment."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"OZ_RUN_ID={task_id}\0".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal from outside the container: from within, its process 1 is immune to most."""
    os.kill(pid, number)
