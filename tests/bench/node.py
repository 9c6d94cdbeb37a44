"""The node, a process of its own: ``python -m tests.bench.node KUBECONFIG``.

It takes the Pods of all namespaces. Those of a preflight end at once, and every other one
runs until it is told to end. Standard input takes a JSON object a line:
``{"finish": 10, "pause": 0.04}`` ends the ten Pods that have run the longest, one each
0.04 s. Standard output gives one whenever something changed: how many Pods were
``started`` so far, preflights aside, and how many are ``running``. The end of the input
ends the node.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

from tests.cluster.kubeconfig import Connection
from tests.cluster.kubelet import Kubelet, PodRun, Script, behaviours
from tests.cluster.kubelet.states import Pod

__all__ = ["main"]

#: Seconds between two reports at least: counting must not be what keeps the node busy.
REPORT_EVERY: Final = 0.1

#: What the names of preflight Jobs, and of their Pods, begin with.
PREFLIGHT: Final = "oz-preflight-"


class _Gate:
    """Lets Pods end, in the order in which they began to wait. ``held`` counts them all."""

    def __init__(self) -> None:
        self.held = 0
        self._places = asyncio.Semaphore(0)

    def choose(self, pod: Pod) -> Script:
        """The behaviour of the node."""
        preflight = pod["metadata"]["name"].startswith(PREFLIGHT)
        return behaviours.succeed() if preflight else self._hold

    async def _hold(self, run: PodRun) -> None:
        self.held += 1
        await run.run()
        await self._places.acquire()
        await run.finish(0)

    async def release(self, count: int, pause: float) -> None:
        for _ in range(count):
            self._places.release()
            await asyncio.sleep(pause)


async def _play(kubeconfig: Path) -> None:
    gate = _Gate()
    connection = Connection.from_kubeconfig(kubeconfig)
    async with Kubelet(connection, gate.choose) as node:
        reporting = asyncio.create_task(_report(node, gate))
        commands = await _standard_input()
        async for line in commands:
            order = json.loads(line)
            await gate.release(order["finish"], order["pause"])
        reporting.cancel()


async def _report(node: Kubelet, gate: _Gate) -> None:
    said: tuple[int, int] | None = None
    while True:
        state = (gate.held, node.count("Running"))
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
    (kubeconfig,) = sys.argv[1:]
    asyncio.run(_play(Path(kubeconfig)))


if __name__ == "__main__":
    main()
