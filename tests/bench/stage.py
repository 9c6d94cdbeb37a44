"""What all phases share: the cluster, its node, the control plane; and how each gets its worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from oz_agent_worker.protocol.frames import encode_frame
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient

from .assignments import assignment
from .control_plane import ControlPlane
from .ledger import Ledger
from .node_process import NodeProcess
from .settings import Settings
from .waiting import until
from .worker_process import WorkerFiles, WorkerProcess, running_worker

__all__ = ["Stage"]


@dataclass(frozen=True, slots=True)
class Stage:
    """``api`` is the bench's own access to the cluster, with all rights; ``folder`` takes files."""

    tier: ApiTier
    api: AsyncRestClient
    node: NodeProcess
    peer: ControlPlane
    folder: Path
    settings: Settings

    @asynccontextmanager
    async def worker(self, namespace: str) -> AsyncIterator[WorkerProcess]:
        """Run a worker of its own for the time of the block, connected and with an empty ledger."""
        self.peer.ledger = Ledger()
        files = WorkerFiles(self.tier.kubeconfig("worker", namespace), namespace, self.folder)
        async with running_worker(files, self.peer) as worker:
            await until("the worker is connected", lambda: self.peer.connected, worker.check, timeout=10)
            yield worker

    async def assign(self, task_ids: list[str]) -> None:
        """Have the worker take tasks, as fast as its connection does."""
        frames = {task_id: encode_frame(assignment(task_id)) for task_id in task_ids}
        await self.peer.assign(frames)
