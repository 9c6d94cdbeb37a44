"""The node, a process of its own: ``python -m tests.bench.node KUBECONFIG NAMESPACE``.

Every Pod runs until it is told to end. Standard input takes a JSON object a line:
``{"finish": 10, "pause": 0.04}`` ends the ten Pods that have run the longest, one each
0.04 s. Standard output gives one whenever something changed: how many Pods were
``started`` so far, and how many are ``running``. The end of the input ends the node.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

from tests.cluster.kubeconfig import Connection
from tests.cluster.kubelet import Kubelet, PodRun, behaviours

__all__ = ["main"]

#: Seconds between two reports at least: counting must not be what keeps the node busy.
REPORT_EVERY: Final = 0.1


class _Gate:
    """Lets Pods end, in the order in which they began to wait."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(0)

    async def hold(self, run: PodRun) -> None:
        """The script of every Pod."""
        await run.run()
        await self._places.acquire()
        await run.finish(0)

    async def release(self, count: int, pause: float) -> None:
        for _ in range(count):
            self._places.release()
            await asyncio.sleep(pause)


async def _play(kubeconfig: Path, namespace: str) -> None:
    gate = _Gate()
    connection = Connection.from_kubeconfig(kubeconfig)
    async with Kubelet(connection, behaviours.always(gate.hold), namespaces=[namespace]) as node:
        reporting = asyncio.create_task(_report(node))
        commands = await _standard_input()
        async for line in commands:
            order = json.loads(line)
            await gate.release(order["finish"], order["pause"])
        reporting.cancel()


async def _report(node: Kubelet) -> None:
    said: tuple[int, int] | None = None
    while True:
        state = (len(node.started), node.count("Running"))
        if state != said:
            said = state
            print(json.dumps({"started": state[0], "running": state[1]}), flush=True)
        await asyncio.sleep(REPORT_EVERY)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def main() -> None:
    """Run the node until the input ends."""
    kubeconfig, namespace = sys.argv[1:]
    asyncio.run(_play(Path(kubeconfig), namespace))


if __name__ == "__main__":
    main()
