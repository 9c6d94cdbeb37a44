"""A backend as the tests use it: quick to give up, with tasks made of a name."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import InstanceShape, Sidecar
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import AdoptableExecution
from oz_agent_worker.worker.backends.kubernetes.adoption.instance import ProcessInstance
from oz_agent_worker.worker.backends.kubernetes.adoption.liveness import LivenessSettings
from oz_agent_worker.worker.backends.kubernetes.adoption.self_identity import this_machine
from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.backend import BackendSettings, KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.event_reader import EventSettings
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import PreflightSettings
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_run import ProbeRunSettings
from oz_agent_worker.worker.backends.kubernetes.watch.reflector import WatchSettings
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import TaskSpec
from tests.integration.worker.backends.harness import leave_alone
from tests.timeouts import HANG_TIMEOUT

__all__ = ["DEAD", "IMPATIENT", "PATIENT_PREFLIGHT", "QUICK", "Output", "running_backend", "task"]

#: A preflight that waits for a busy machine's controllers; only a missing permission is believed soon.
PATIENT_PREFLIGHT = PreflightSettings(
    patience=HANG_TIMEOUT,
    refusal_patience=0.5,
    probe=ProbeRunSettings(admission=HANG_TIMEOUT, whole=HANG_TIMEOUT),
)
#: Short pauses, and no end to the patience: a test waits for what happens, not for a clock.
QUICK = BackendSettings(
    patience=HANG_TIMEOUT,
    check_every=0.2,
    events=EventSettings(every=0.3, spacing=0.02),
    preflight=None,
    precedence=5.0,
    client=ClientSettings(
        request_timeout=HANG_TIMEOUT,
        in_doubt=0.3,
        create=RetryPolicy(budget=HANG_TIMEOUT, first=0.02, longest=0.2),
        delete=RetryPolicy(budget=HANG_TIMEOUT, first=0.02, longest=0.2),
        read=RetryPolicy(budget=HANG_TIMEOUT, first=0.02, longest=0.2),
        log=RetryPolicy(budget=1.0, first=0.02, longest=0.2),
    ),
    watch=WatchSettings(
        timeout=30.0,
        slack=1.0,
        healthy_after=1.0,
        refusal_patience=0.5,
        pauses=RetryPolicy(first=0.02, longest=0.2),
    ),
    owners=LivenessSettings(first=0.05, longest=0.1, ending=0.05, refused=0.1, refusal_patience=0.0),
)

#: Gives a creation up at once.
IMPATIENT = dataclasses.replace(
    QUICK, client=dataclasses.replace(QUICK.client, create=RetryPolicy(budget=0.05, first=0.02, longest=0.05))
)

#: A worker of this machine that is gone: no process has an ID beyond the kernel's limit (2**22).
DEAD = str(ProcessInstance(this_machine(), 2**22 + 1, "1"))


class Output:
    """An output sink that keeps what it is given."""

    def __init__(self, *, wanted: bool | None = True) -> None:
        self.wanted = wanted
        self.received = b""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.received += chunk


def task(name: str, *, image: str = "busybox", sidecars: Sequence[Sidecar] = ()) -> TaskSpec:
    """A task whose run is called ``name``."""
    return TaskSpec(
        key=ExecutionKey(name, f"{name}-1"),
        title=name,
        arguments=("agent", "run"),
        environment={"TOKEN": Secret("swordfish")},
        image=image,
        sidecars=tuple(sidecars),
        shape=InstanceShape(),
        harness=None,
    )


@asynccontextmanager
async def running_backend(
    kubeconfig: Path,
    namespace: str,
    *,
    worker_id: str = "worker-a",
    cleanup: bool = True,
    settings: BackendSettings = QUICK,
    unschedulable_timeout: float = 1.0,
    pull_grace: float = 1.0,
    found: Callable[[AdoptableExecution], None] = leave_alone,
    environ: Mapping[str, str] | None = None,
    **keys: Any,
) -> AsyncIterator[KubernetesBackend]:
    """Start a backend, and close it at the end; ``keys`` are of its configuration.

    ``environ`` says which Pod the worker is (``pod_environ``); without it, it is this process.
    """
    config = KubernetesConfig(
        namespace=namespace,
        kubeconfig=str(kubeconfig),
        unschedulable_timeout=unschedulable_timeout,
        pull_grace=pull_grace,
        **keys,
    )
    backend = KubernetesBackend(
        config, worker_id=worker_id, cleanup=cleanup, environ=environ or {}, settings=settings
    )
    await backend.start(found)
    try:
        yield backend
    finally:
        await backend.close()
