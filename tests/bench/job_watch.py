"""The bench's own view of the Jobs: a watch that notes when each one ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from oz_agent_worker.worker.backends.kubernetes.manifest.naming import ANNOTATION_TASK_ID
from tests.cluster.async_rest import AsyncRestClient
from tests.cluster.errors import ApiError

from .errors import BenchError
from .ledger import Ledger

__all__ = ["JobWatch", "job_ended", "watching_jobs"]


class JobWatch:
    """Writes into ``ledger`` when a task's Job has ended; ``deleted`` counts the Jobs that are gone.

    The API server ends a watch whose reader it finds slow, which on a busy machine any can
    be: it goes on where it was.
    """

    def __init__(self, api: AsyncRestClient, namespace: str, ledger: Ledger) -> None:
        self.deleted = 0
        self._api = api
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._ledger = ledger
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Watch from here on."""
        listing = await self._api.get(self._path)
        self._task = asyncio.create_task(self._follow(listing["metadata"]["resourceVersion"]))

    def check(self) -> None:
        """Raise BenchError where the watch has ended: its times would be missing."""
        if self._task is not None and self._task.done():
            raise BenchError("the bench's own watch of the Jobs has ended")

    async def close(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ApiError):
                await self._task

    async def _follow(self, version: str) -> None:
        while True:
            async for kind, job in self._api.watch(self._path, version):
                now = time.monotonic()
                version = job["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self.deleted += 1
                elif kind != "BOOKMARK" and job_ended(job):
                    self._ledger.ended(job["metadata"]["annotations"][ANNOTATION_TASK_ID], now)


@asynccontextmanager
async def watching_jobs(api: AsyncRestClient, namespace: str, ledger: Ledger) -> AsyncIterator[JobWatch]:
    """Watch the Jobs of a namespace for the time of the block."""
    watch = JobWatch(api, namespace, ledger)
    await watch.start()
    try:
        yield watch
    finally:
        await watch.close()


def job_ended(job: Mapping[str, Any]) -> bool:
    """Whether a Job has one of its two last conditions (batch/v1, JobCondition)."""
    conditions = job.get("status", {}).get("conditions") or ()
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
