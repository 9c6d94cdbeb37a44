"""A worker on a real backend; the test plays the control plane and sends it assignments and cancellations."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from oz_agent_worker.protocol.assignment import Assignment
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import Assigned, CancellationRequested, Delivered
from oz_agent_worker.worker.backends.kubernetes.backend import BackendSettings, KubernetesBackend
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import TaskSettings, TaskSpec, build_task_spec
from oz_agent_worker.worker.worker import Worker, WorkerSettings
from tests.integration.worker.backends.harness import eventually

from .worker import QUICK

__all__ = ["DrivenWorker", "driven_worker", "key", "spec"]


def key(name: str) -> ExecutionKey:
    """Name the execution of the task ``name``, as ``worker.task`` makes it."""
    return ExecutionKey(name, f"{name}-1")


TASKS: Final = TaskSettings(server_root_url="https://oz.test")


def assignment(name: str) -> Assignment:
    """The assignment of the task ``name``."""
    return Assignment(key=key(name), agent_task_id=name)


def spec(name: str) -> TaskSpec:
    """The TaskSpec that the worker builds from that assignment."""
    return build_task_spec(assignment(name), TASKS)


class DrivenWorker:
    """Records the claims and reports of a worker; ``deliver`` confirms the delivery of the reports."""

    def __init__(self, backend: KubernetesBackend) -> None:
        self.backend = backend
        self.outbox = Outbox()
        self.claims: list[ExecutionKey] = []
        self.reports: list[tuple[ExecutionKey, Outcome]] = []
        self.rejections: list[ExecutionKey] = []
        self.messages: list[str] = []
        settings = WorkerSettings(worker_id="worker-a", max_concurrent_tasks=0, tasks=TASKS)
        self.worker = Worker(backend, settings, self.outbox, LogBuffers())
        self.worker.connection = self
        self._barrier = 0

    def wake(self) -> None:
        """Record the claims and reports that are due, in order."""
        self._barrier += 1
        for _, item in self.outbox.due(barrier=self._barrier):
            if isinstance(item, Claim):
                self.claims.append(item.key)
            else:
                self.reports.append((item.key, item.outcome))

    def reject(self, rejected: ExecutionKey, reason: str, message: str | None = None) -> None:
        """Record a rejected execution, and why."""
        self.rejections.append(rejected)
        self.messages.append(message or reason)

    def assign(self, name: str) -> None:
        """Assign a task."""
        self.worker.on_event(Assigned(assignment(name)))

    def cancel(self, name: str) -> None:
        """Ask for the cancellation of a task."""
        self.worker.on_event(CancellationRequested(name, None))

    def deliver(self) -> None:
        """Confirm the delivery of all reports sent so far."""
        reports: list[TerminalReport] = self.outbox.confirm_barrier(self._barrier, terminal_too=True, now=0.0)
        self.worker.on_event(Delivered(tuple(reports)))

    async def holds(self, *names: str) -> None:
        """Wait until the worker has claimed exactly these tasks."""
        await eventually(lambda: sorted(self.claims) == sorted(map(key, names)))

    async def ended(self, name: str) -> TaskResult:
        """Wait for a task's one report."""
        await eventually(lambda: key(name) in dict(self.reports))
        (outcome,) = [outcome for of, outcome in self.reports if of == key(name)]
        return outcome.result

    async def emptied(self) -> None:
        """Deliver what is due, and check that the worker holds no execution."""
        self.deliver()
        await eventually(lambda: not self.worker.hello().executions)
        assert self.worker.active == 0


@asynccontextmanager
async def driven_worker(
    kubeconfig: Path,
    namespace: str,
    *,
    environ: Mapping[str, str] | None = None,
    settings: BackendSettings = QUICK,
    **keys: Any,
) -> AsyncIterator[DrivenWorker]:
    """Run a worker, and drop it without a shutdown at the end of the block.

    Its Jobs keep running, and its undelivered reports are lost.
    """
    config = KubernetesConfig(namespace=namespace, kubeconfig=str(kubeconfig), **keys)
    backend = KubernetesBackend(
        config, worker_id="worker-a", cleanup=True, environ=environ or {}, settings=settings
    )
    driven = DrivenWorker(backend)
    await backend.start(driven.worker.adopt)
    try:
        yield driven
    finally:
        await driven.worker.drain(0)
        await backend.close()
