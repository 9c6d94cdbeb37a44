"""A kubelet and a scheduler in one, played over the real API: Pods go through their phases by script."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.cluster.async_rest import STRATEGIC_PATCH, AsyncRestClient
from tests.cluster.errors import ApiError, ClusterError
from tests.cluster.kubeconfig import Connection
from tests.cluster.provision import kubernetes_version
from tests.timeouts import HANG_TIMEOUT

from .behaviours import always, is_preflight, succeed
from .logs import ContainerLog, LogServer
from .node import LEASE_SECONDS, LEASES, lease, node
from .pod_run import Behaviour, PodGoneError, PodRun
from .states import Pod

__all__ = ["Kubelet"]

RELIST_PAUSE = 0.1

PASS = always(succeed())


class Kubelet:
    """An async context manager: a node that takes every Pod of its namespaces.

    Args:
        connection: how to reach the API server, as a user who may do everything.
        behaviour: chooses each Pod's script; ``behaviours`` has ready ones.
        namespaces: whose Pods to take; none given means all.
        name: the Node's name; by default a new one.
        preflight: the behaviour of preflight Pods, which by default succeed at once.

    A script that raises makes the context manager raise when it is left.
    """

    def __init__(
        self,
        connection: Connection,
        behaviour: Behaviour,
        *,
        namespaces: Iterable[str] = (),
        name: str | None = None,
        preflight: Behaviour = PASS,
    ) -> None:
        self.name = name or f"node-{secrets.token_hex(4)}"
        self.started: list[Pod] = []
        """Every Pod of a task that was given a script, in order, once each."""
        self.preflights: list[Pod] = []
        """Every preflight Pod, likewise."""
        self._preflight = preflight
        self._behaviour = behaviour
        self._paths = [f"/api/v1/namespaces/{namespace}/pods" for namespace in namespaces] or ["/api/v1/pods"]
        self._api = AsyncRestClient(connection, user_agent="played-kubelet")
        self._logs = LogServer()
        self._runs: dict[str, PodRun] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._deleting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses = itertools.count(1)
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self._api.__aenter__()
        try:
            await self._logs.start()
            await self._register()
        except BaseException:
            await self._close()
            raise
        for path in self._paths:
            self._spawn(self._follow(path))
        self._spawn(self._renew_lease())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.vanish()
        try:
            # The API server may be the very thing that the test has taken away.
            async with asyncio.timeout(5):
                await self._unregister()
        except TimeoutError:
            pass
        finally:
            await self._close()
        if self._failure is not None and error is None:
            raise ClusterError(f"the played kubelet {self.name} failed") from self._failure

    async def vanish(self) -> None:
        """Stop as a machine that loses its power: containers die, and the API server hears nothing of it."""
        for run in self._runs.values():
            run.abandoned = True
            run.grace = 0
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        await self._logs.stop()
        await self._api.__aexit__(None, None, None)

    def count(self, phase: str) -> int:
        """Return how many of the Pods on this node, those not yet deleted, are in a phase."""
        return sum(run.phase == phase for run in self._runs.values())

    async def until(self, holds: Callable[[Self], bool], *, timeout: float = HANG_TIMEOUT) -> None:
        """Wait for something that changes with a Pod's status, such as ``lambda k: k.count("Running") == 5``.

        Raises:
            TimeoutError: it did not come about in ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while self._failure is None and not holds(self):
                await self._changed.wait()
        if self._failure is not None:
            raise ClusterError(f"the played kubelet {self.name} failed") from self._failure

    def log(self, run: PodRun, container: str) -> ContainerLog:
        """Return the log of one of a Pod's containers."""
        return self._logs.open(run.namespace, run.name, container)

    def hang_logs(self) -> None:
        """Answer no request for a log from then on."""
        self._logs.hangs = True

    def pod_ip(self) -> str:
        """Return an address that no other Pod of this node has."""
        number = next(self._addresses)
        return f"10.{244 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def published(self, run: PodRun) -> None:
        """Wake those who wait for a change."""
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _register(self) -> None:
        now = datetime.now(UTC)
        await self._api.create("/api/v1/nodes", node(self.name, self._logs.port, kubernetes_version(), now))
        await self._api.create(LEASES, lease(self.name, now))

    async def _unregister(self) -> None:
        for path in (f"/api/v1/nodes/{self.name}", f"{LEASES}/{self.name}"):
            with contextlib.suppress(ApiError):
                await self._api.request("DELETE", path)

    async def _renew_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            renewed = lease(self.name, datetime.now(UTC))
            await self._api.request("PATCH", f"{LEASES}/{self.name}", renewed, STRATEGIC_PATCH)

    async def _follow(self, path: str) -> None:
        """List and watch, for ever; a new list shows what was missed while there was no watch."""
        while True:
            with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError):
                listing = await self._api.get(path)
                for pod in listing["items"]:
                    self._see(pod)
                self._forget_all_but({pod["metadata"]["uid"] for pod in listing["items"]}, path)
                async for kind, pod in self._api.watch(path, listing["metadata"]["resourceVersion"]):
                    if kind == "DELETED":
                        self._forget(pod["metadata"]["uid"])
                    elif kind != "BOOKMARK":
                        self._see(pod)
            await asyncio.sleep(RELIST_PAUSE)

    def _see(self, pod: Pod) -> None:
        """Start what a Pod's state asks for, once."""
        metadata: dict[str, Any] = pod["metadata"]
        uid = metadata["uid"]
        run = self._runs.get(uid)
        if run is None:
            if pod["spec"].get("nodeName", self.name) != self.name:
                return
            if pod["status"].get("phase") in {"Succeeded", "Failed"}:
                return
            run = self._runs[uid] = PodRun(pod, self, self._api)
            (self.preflights if is_preflight(pod) else self.started).append(pod)
            self._lives[uid] = self._spawn(self._live(run))
        if "deletionTimestamp" in metadata and uid not in self._deleting:
            self._deleting.add(uid)
            run.grace = metadata.get("deletionGracePeriodSeconds", run.grace)
            self._spawn(self._end(run, self._lives[uid]))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside; what it raises is kept, and raised when the context manager is left."""

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, PodGoneError):
            self._failure = self._failure or error
            self._notify()

    async def _live(self, run: PodRun) -> None:
        behaviour = self._preflight if is_preflight(run.pod) else self._behaviour
        await behaviour(run.pod)(run)

    async def _end(self, run: PodRun, life: asyncio.Task[None]) -> None:
        """Delete a Pod as a kubelet does: stop its containers, report their end, then remove the object."""
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        if not run.ended:
            await run.kill()
        await run.remove()

    def _forget(self, uid: str) -> None:
        """The Pod's object is gone, so nothing of it may stay."""
        run = self._runs.pop(uid, None)
        if run is None:
            return
        run.abandoned = True
        run.grace = 0
        self._lives.pop(uid).cancel()
        self._deleting.discard(uid)
        self._logs.forget(run.namespace, run.name)
        self._notify()

    def _forget_all_but(self, listed: set[str], path: str) -> None:
        for uid, run in list(self._runs.items()):
            mine = path == "/api/v1/pods" or path == f"/api/v1/namespaces/{run.namespace}/pods"
            if mine and uid not in listed:
                self._forget(uid)
