"""The bench's end of the process that plays the node."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.cluster.processes import die_with_parent

from .errors import BenchError
from .waiting import until

__all__ = ["NodeProcess", "running_node"]

ROOT: Final = Path(__file__).parents[2]
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 20.0


class NodeProcess:
    """A node at the other end of two pipes; see ``tests.bench.node``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.ready = False
        self._counts: dict[str, tuple[int, int]] = {}
        self._process = process

    def started(self, namespace: str) -> int:
        """How many tasks' Pods were ever started there."""
        return self._counts.get(namespace, (0, 0))[0]

    def running(self, namespace: str) -> int:
        """How many of them run."""
        return self._counts.get(namespace, (0, 0))[1]

    async def finish(self, namespace: str, count: int, *, pause: float = 0.0) -> None:
        """End the ``count`` Pods there that have run the longest, one each ``pause`` seconds."""
        assert self._process.stdin is not None
        order = {"namespace": namespace, "finish": count, "pause": pause}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()

    def check(self) -> None:
        """Raise BenchError where the node has died."""
        if self._process.returncode is not None:
            raise BenchError(f"the node ended with exit code {self._process.returncode}")

    async def listen(self) -> None:
        """Take the node's reports until its end."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.ready = True
            self._counts = json.loads(line)


@asynccontextmanager
async def running_node(kubeconfig: Path) -> AsyncIterator[NodeProcess]:
    """Start a node for all namespaces, and end it at the end.

    Raises:
        BenchError: it does not start.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.node", str(kubeconfig),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, preexec_fn=die_with_parent,
    )  # fmt: skip
    node = NodeProcess(process)
    listening = asyncio.create_task(node.listen())
    try:
        await until("the node is ready", lambda: node.ready, node.check, timeout=START_TIMEOUT)
        yield node
    finally:
        await _end(process)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
