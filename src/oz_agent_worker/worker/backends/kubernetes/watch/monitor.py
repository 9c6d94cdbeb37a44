"""Keeps the index of Jobs and Pods current: two reflectors, and the check that their watches live."""

import asyncio
import logging
import time
from typing import Final

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOB_VERSIONS, JOBS, PODS
from oz_agent_worker.worker.events import WatchStatus

from .consistency_check import VersionDifference, differences, persistent
from .job_index import JobIndex
from .reflector import Reflector, WatchSettings

__all__ = ["JobMonitor"]

_logger = logging.getLogger(__name__)

#: Seconds until the next check after one that failed or found a difference.
_SOON: Final = 5.0


class JobMonitor:
    """Watches all of the worker's Jobs and Pods in one namespace, with one watch each.

    Every ``check_every`` seconds, while an execution is in flight, one list from the API server's
    cache shows whether the watch of the Jobs has missed anything (see ``consistency_check``). After a
    check that failed or found a difference, the next one comes sooner. When a check succeeds after
    failures, a watch that has received nothing since the first of them gets another connection.
    """

    def __init__(
        self,
        client: KubernetesClient,
        index: JobIndex,
        namespace: str,
        label_selector: str,
        *,
        check_every: float,
        settings: WatchSettings,
    ) -> None:
        self._client = client
        self._index = index
        self._namespace = namespace
        self._selector = label_selector
        self._check_every = check_every
        self._jobs = Reflector(
            client,
            JOBS,
            namespace,
            label_selector,
            on_change=index.on_job_change,
            on_list=index.on_list,
            settings=settings,
        )
        self._pods = Reflector(
            client, PODS, namespace, label_selector, on_change=index.on_pod_change, settings=settings
        )
        self._faults = FaultLog(_logger, "the watch")
        self._task: asyncio.Task[None] | None = None

    async def start(self, timeout: float) -> None:
        """Return when both watches are open; each may try for ``timeout`` seconds.

        Raises:
            ApiError: a list or a watch was refused, or did not succeed in time.
        """
        await self._jobs.start(timeout)
        await self._pods.start(timeout)
        self._task = asyncio.create_task(self._check_for_ever(), name="check of the Jobs in flight")

    def watch_status(self) -> tuple[WatchStatus, ...]:
        """The state of both watches; empty before ``start`` has returned."""
        return (self._jobs.watch_status(), self._pods.watch_status()) if self._task is not None else ()

    async def close(self) -> None:
        """End the watches."""
        await cancel_and_wait(self._task)
        await self._jobs.close()
        await self._pods.close()

    async def _check_for_ever(self) -> None:
        before: dict[str, VersionDifference] = {}
        failing_since: float | None = None
        soon = False
        while True:
            await asyncio.sleep(min(self._check_every, _SOON) if soon else self._check_every)
            began = time.monotonic()
            try:
                found = await self._check(before)
            except ApiError as error:
                _logger.debug("the Jobs in flight cannot be checked: %s", error)
                failing_since = began if failing_since is None else failing_since
                before, soon = {}, True
                continue
            if failing_since is not None:
                self._reconnect_silent(time.monotonic() - failing_since)
                failing_since = None
            # Two checks in a row decide. In a busy cluster each finds a difference: no reason for more.
            soon = bool(found) and not soon
            before = found if soon else {}

    def _reconnect_silent(self, outage: float) -> None:
        """After an outage a connection may be open and lead nowhere, as through a load balancer."""
        for reflector in (self._jobs, self._pods):
            if reflector.watch_status().silent_for >= outage:
                reflector.reconnect()

    async def _check(self, before: dict[str, VersionDifference]) -> dict[str, VersionDifference]:
        """Check once; return what differs, to be compared with the next check."""
        names = {name for name, _ in self._index.handlers()}
        if not names:
            return {}
        page = await self._client.list_page(
            JOB_VERSIONS, self._namespace, label_selector=self._selector, resource_version="0"
        )
        cached = {item.metadata.name: item for item in page.items or () if item.metadata.name in names}
        after = differences(names, self._jobs.objects, cached)
        missed = persistent(before, after)
        if not missed:
            return after
        self._faults.occurred("missed changes", f"{len(missed)} Jobs differ, such as {missed[0]}")
        self._jobs.relist()
        self._pods.reconnect()
        return {}
