"""What tests on the scripted API server share: a backend's start, a task's launch, and its end."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.execution import KubernetesExecution
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from tests.timeouts import HANG_TIMEOUT

from .worker import task

__all__ = ["JOB", "Start", "ended", "launch"]

#: The Job of the task that ``launch`` starts by default.
JOB: Final = job_name(ExecutionKey("run", "run-1"))

Start = Callable[..., AbstractAsyncContextManager[KubernetesBackend]]


async def launch(backend: KubernetesBackend, name: str = "run") -> KubernetesExecution:
    """Launch a task whose output is not read."""
    return await backend.launch(task(name), NoOutput())


async def ended(execution: KubernetesExecution) -> TaskResult:
    """Wait for the end of an execution."""
    async with asyncio.timeout(HANG_TIMEOUT):
        return (await execution.wait()).result
