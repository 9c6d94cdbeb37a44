"""An adopting worker beside an API server in memory, whose clock is its own."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.adoption.adoption import Adoption
from oz_agent_worker.worker.backends.kubernetes.adoption.decision import AdoptionPolicy
from oz_agent_worker.worker.backends.kubernetes.adoption.instance import Machine, PodInstance
from oz_agent_worker.worker.backends.kubernetes.adoption.liveness import (
    AdoptionQueries,
    LivenessSettings,
    OwnerLiveness,
    ServerClock,
)
from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name, task_annotations, task_labels
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.watch.job_index import JobIndex
from oz_agent_worker.worker.backends.kubernetes.watch.store import Change
from tests.unit.worker.backends.kubernetes.memory_api import MemoryApi, connected
from tests.unit.worker.backends.kubernetes.samples import job_view
from tests.virtual_time import START

__all__ = ["ELSEWHERE", "GONE", "NOON", "OWN", "WORKER", "Bench", "elapsed", "ended", "job"]

WORKER: Final = "worker-a"
OWN: Final = PodInstance("agents", "worker-0", "uid-own")
#: An owner whose Pod does not exist, and one whose state is unknown here.
GONE: Final = "pod/agents/worker-9/uid-9"
ELSEWHERE: Final = "process/elsewhere/boot/1/1/1"
#: The API server's time at the start of a test.
NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


def elapsed() -> float:
    """Seconds since the start of the test."""
    return asyncio.get_running_loop().time() - START


def ended(seconds_ago: float = 0.0, kind: str = "Complete") -> dict[str, Any]:
    """The status of a Job that ended so many seconds before the start of the test."""
    time = (NOON - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": time}]}


def job(name: str, owner: str | None, *, worker: str = WORKER, **more: Any) -> JobView:
    """A Job of the task ``name``; ``more`` is metadata, its status, and the execution's ID."""
    key = ExecutionKey(name, more.pop("execution", "e"))
    annotations = task_annotations(key) | more.pop("annotations", {})
    if owner is not None:
        annotations["oz.warp.dev/owner"] = owner
    metadata = {
        "name": job_name(key),
        "uid": f"uid-{name}",
        "labels": task_labels(worker, key),
        "annotations": annotations,
        "creationTimestamp": "2026-01-01T11:00:00Z",
    }
    status = more.pop("status", {"active": 1})
    return job_view({"metadata": metadata | more, "status": status})


class Bench:
    """``adopted`` are the task IDs of the Jobs that were found, ``lookups`` the times of owners' look-ups."""

    def __init__(
        self,
        *jobs: JobView,
        policy: AdoptionPolicy | None = None,
        settings: LivenessSettings | None = None,
    ) -> None:
        self.api = _TimedApi()
        self.index = JobIndex()
        self.adopted: list[str] = []
        self._policy = policy or AdoptionPolicy()
        self._settings = settings
        for each in jobs:
            self.put(each)

    @property
    def lookups(self) -> list[float]:
        return [at for kind, at in self.api.times if kind == "GET pods"]

    def put(self, changed: JobView, *, deleted: bool = False) -> None:
        """Have the watch report a Job."""
        self.index.on_job_change(Change(changed, deleted))

    def put_worker(self, name: str, **metadata: Any) -> str:
        """Let a worker's Pod run; return what its Jobs name as their owner."""
        phase = metadata.pop("phase", "Running")
        uid = f"uid-{name}"
        self.api.pods[name] = {
            "metadata": {"name": name, "namespace": "agents", "uid": uid, **metadata},
            "status": {"phase": phase},
        }
        return str(PodInstance("agents", name, uid))

    async def owners(self, server_clock: ServerClock | None = None) -> OwnerLiveness:
        """Make what looks owners up; no request is tried again by the client itself."""
        return OwnerLiveness(
            await connected(self.api, ClientSettings(read=RetryPolicy(budget=0.0))),
            OWN,
            Machine("here", "boot"),
            clock=asyncio.get_running_loop().time,
            server_clock=server_clock or ServerClock(asyncio.get_running_loop().time),
            settings=self._settings,
        )

    async def start(self) -> Adoption:
        """Start to adopt Jobs."""
        clock = asyncio.get_running_loop().time
        server_clock = ServerClock(clock)
        client = await connected(self.api, ClientSettings(read=RetryPolicy(budget=0.0)))
        adoption = Adoption(
            self.index,
            await self.owners(server_clock),
            AdoptionQueries(client, "agents", "", server_clock, clock=clock),
            worker_id=WORKER,
            policy=self._policy,
            found=self._found,
            clock=clock,
        )
        await adoption.start()
        return adoption

    def _found(self, found: JobView) -> None:
        assert found.metadata.key is not None
        self.adopted.append(found.metadata.key.task_id)


class _TimedApi(MemoryApi):
    """Notes when each request came; its clock shows noon, and ``ahead``, at the start of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[str, float]] = []
        self.ahead = timedelta()
        self.date = self._now

    def _now(self) -> str:
        return format_datetime(NOON + self.ahead + timedelta(seconds=elapsed()), usegmt=True)

    async def request(self, method: str, url: str, **options: Any) -> Any:
        count = len(self.requests)
        try:
            return await super().request(method, url, **options)
        finally:
            self.times += [(kind, elapsed()) for kind in self.requests[count:]]
