"""How much CPU time the same work takes meanwhile, against its best: ``python -m tests.bench.yardstick``.

CPU time is no fixed measure of work: what else runs takes the caches, and a process that wakes
for a moment finds them cold. This process does the same small work again and again, rarely enough
to be no burden itself. Each line of standard input is answered by one of standard output: the mean
CPU time of the work since the last line, as a multiple of the least that it took at the start.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.cluster.processes import die_with_parent

__all__ = ["Yardstick", "mean_of_rest", "yardstick"]

ROOT: Final = Path(__file__).parents[2]
#: Seconds between two pieces of work.
PAUSE: Final = 0.01
#: How often the work is done at the start, for the least that it takes.
TRIES: Final = 200
#: Decodings in a piece of work: some 0.2 ms, as a worker has to do when something comes.
DECODINGS: Final = 4
DOCUMENT: Final = json.dumps([{"name": f"n-{number}", "text": "word " * 5} for number in range(150)])


class Yardstick:
    """The bench's end of the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self) -> float:
        """How many times its least the work took, on the mean since the last reading."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return float(await self._process.stdout.readline())


@asynccontextmanager
async def yardstick() -> AsyncIterator[Yardstick]:
    """Run the process for the time of the block; it counts from here on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.yardstick",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, preexec_fn=die_with_parent,
    )  # fmt: skip
    stick = Yardstick(process)
    try:
        await stick.read()
        yield stick
    finally:
        process.kill()
        await process.wait()


def mean_of_rest(totals: tuple[int, float], before: tuple[int, float]) -> float:
    """The mean since ``before``; both are how often, and how many seconds in all. 0 where there was none."""
    count, seconds = totals[0] - before[0], totals[1] - before[1]
    return seconds / count if count else 0.0


def _timed(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def _work() -> object:
    return [{entry["name"]: entry["text"] for entry in json.loads(DOCUMENT)} for _ in range(DECODINGS)]


def main() -> None:
    """Work until the input ends."""
    least = min(_timed(_work) for _ in range(TRIES))
    totals = (0, 0.0)

    def answer() -> None:
        before = totals
        for _ in sys.stdin:
            print(f"{mean_of_rest(totals, before) / least:.3f}", flush=True)
            before = totals

    answering = threading.Thread(target=answer)
    answering.start()
    while answering.is_alive():
        totals = (totals[0] + 1, totals[1] + _timed(_work))
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
