"""Tasks whose agent is a script, workers that take them, and the processes that come of them."""

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol import frames
from tests.cluster.node.images import AGENT_IMAGE, BUSYBOX_IMAGE
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import wait_for
from tests.integration.programs import BIN, Program, environment, program
from tests.timeouts import HANG_TIMEOUT

from .peer import Peer

__all__ = [
    "WORKER_ID",
    "config_file",
    "failed_start",
    "process_of",
    "processes_of",
    "script_task",
    "send_signal",
    "worker_of",
]

WORKER_ID: Final = "e2e"
LISTENING: Final = "Listening for tasks"


def script_task(
    script: str,
    *,
    image: str = BUSYBOX_IMAGE,
    agent: str = AGENT_IMAGE,
    vcpus: int | None = None,
    **env: str,
) -> frames.TaskAssignment:
    """Return an assignment whose agent runs a POSIX script in the task's image."""
    task_id = f"task-{secrets.token_hex(4)}"
    variables = {"OZ_TEST_SCRIPT": script, **env}
    return frames.TaskAssignment(
        task_id=task_id,
        task=frames.SentTask(
            id=task_id, title="A script", task_definition=frames.TaskDefinition(prompt=script)
        ),
        docker_image=image,
        sidecar_image=agent,
        instance_shape=frames.InstanceShape(vcpus=vcpus) if vcpus else None,
        env_vars={name: Secret(value) for name, value in variables.items()},
    )


def config_file(tier: NodeTier, namespace: str, folder: Path, **section: Any) -> Path:
    """Write a worker's config file: the user ``worker`` in a namespace, with the node's own images."""
    kubernetes = {
        "namespace": namespace,
        "kubeconfig": str(tier.api.kubeconfig("worker", namespace)),
        "default_image": BUSYBOX_IMAGE,
        "preflight_image": BUSYBOX_IMAGE,
        **section,
    }
    path = folder / f"worker.{namespace}.json"
    path.write_text(json.dumps({"worker_id": WORKER_ID, "backend": {"kubernetes": kubernetes}}))
    return path


@contextmanager
def worker_of(peer: Peer, config: Path) -> Iterator[Program]:
    """Run a worker of that peer until it listens, and on; at the end its log is printed, for who needs it."""
    with _worker(peer, config) as running:
        try:
            running.wait_for(LISTENING)
            yield running
        finally:
            print(running.text)


def failed_start(peer: Peer, config: Path) -> tuple[int | None, str]:
    """Run a worker that should not come to listen; return its exit code and its last line.

    The exit code is None where it listens all the same.
    """
    with _worker(peer, config) as worker:
        deadline = time.monotonic() + HANG_TIMEOUT
        while worker.process.poll() is None and LISTENING not in worker.text:
            assert time.monotonic() < deadline, f"neither listens nor ends: {worker.text}"
            time.sleep(0.1)
        code = worker.process.poll()
    return code, "\n".join(line for line in worker.lines if " INFO " not in line)


def _worker(peer: Peer, config: Path) -> AbstractContextManager[Program]:
    command = [str(BIN / "oz-agent-worker"), "--config-file", str(config), *peer.flags]
    return program(command, environment(config.parent, WARP_API_KEY=peer.key))


def processes_of(task_id: str) -> list[int]:
    """The processes, as the machine counts, of a task's containers: its run is in their environment."""
    mark = f"OZ_RUN_ID={task_id}\0".encode()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def process_of(task_id: str) -> int:
    """Wait until the task's agent runs; return its first process."""
    wait_for("the task's process", lambda: processes_of(task_id) != [])
    return processes_of(task_id)[0]


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal from outside the container: from within, its process 1 is immune to most."""
    os.kill(pid, number)
