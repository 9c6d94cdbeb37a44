"""The node, a process of its own: ``python -m tests.bench.node KUBECONFIG``.

It takes the Pods of all namespaces. Those of a preflight end at once, and every other one
runs until a request on standard input ends it. Standard input takes a JSON object a line:
``{"namespace": "n", "finish": 10, "pause": 0.04}`` ends the ten Pods of the namespace that
have run the longest, one each 0.04 s. Standard output gives one whenever something changed:
``{"n": [12, 10]}`` says for each namespace how many Pods were started so far, preflights
aside, and how many of them run. The end of the input ends the node.
"""

import asyncio
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.cluster.kubeconfig import Connection
from tests.cluster.kubelet import Kubelet, PodRun, Script, behaviours
from tests.cluster.kubelet.states import Pod

__all__ = ["main"]

#: Seconds between two reports at least: telling must not be what keeps the node busy.
REPORT_EVERY: Final = 0.1

#: What the names of preflight Jobs, and of their Pods, begin with.
PREFLIGHT: Final = "oz-preflight-"


class _Gate:
    """Lets the Pods of a namespace end, in the order in which they began to wait."""

    def __init__(self) -> None:
        self.started = 0
        self.running = 0
        self._places = asyncio.Semaphore(0)

    async def hold(self, run: PodRun) -> None:
        """The script of every Pod."""
        self.started += 1
        await run.run()
        self.running += 1
        try:
            await self._places.acquire()
        finally:
            self.running -= 1
        await run.finish(0)

    async def release(self, count: int, pause: float) -> None:
        """End Pods, one each ``pause`` seconds."""
        for _ in range(count):
            self._places.release()
            await asyncio.sleep(pause)


class _Gates:
    """One for each namespace: what one phase leaves behind takes no place in the next."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = defaultdict(_Gate)

    def behaviour(self, pod: Pod) -> Script:
        """Choose what becomes of a Pod."""
        metadata = pod["metadata"]
        if metadata["name"].startswith(PREFLIGHT):
            return behaviours.succeed()
        return self._gates[metadata["namespace"]].hold

    async def obey(self, line: bytes) -> None:
        """Carry out one line of the input."""
        order = json.loads(line)
        await self._gates[order["namespace"]].release(order["finish"], order["pause"])

    def report(self) -> str:
        """Write one line of the output."""
        return json.dumps({name: [gate.started, gate.running] for name, gate in self._gates.items()})


async def _play(kubeconfig: Path) -> None:
    gates = _Gates()
    async with Kubelet(Connection.from_kubeconfig(kubeconfig), gates.behaviour):
        reporting = asyncio.create_task(_report(gates))
        async for line in await _standard_input():
            await gates.obey(line)
        reporting.cancel()


async def _report(gates: _Gates) -> None:
    last_line = ""
    while True:
        line = gates.report()
        if line != last_line:
            print(line, flush=True)
        last_line = line
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
