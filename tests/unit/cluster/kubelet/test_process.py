import asyncio
from pathlib import Path

import pytest

from tests.cluster.kubelet.cri_log import LogOptions
from tests.cluster.kubelet.logs import ContainerLog
from tests.cluster.kubelet.process import ContainerProcess
from tests.timeouts import HANG_TIMEOUT

PATH = {"PATH": "/usr/bin:/bin"}


def process(directory: Path, script: str, log: ContainerLog | None = None) -> ContainerProcess:
    return ContainerProcess(["/bin/sh", "-c", script], directory, PATH, log or ContainerLog())


async def begun(path: Path) -> None:
    """Wait until a script has printed that it is under way."""
    async with asyncio.timeout(HANG_TIMEOUT):
        while not path.exists():
            await asyncio.sleep(0.01)


async def test_its_exit_code_and_all_its_output_are_had(tmp_path: Path) -> None:
    log = ContainerLog()
    running = process(tmp_path, "echo out; echo err >&2; exit 3", log)
    await running.start()
    assert await running.wait() == 3
    await running.end()
    log.close()
    assert b"".join([piece async for piece in log.read(LogOptions())]) == b"out\nerr\n"


@pytest.mark.parametrize("cancellations", [0, 1, 2])
async def test_it_is_gone_at_the_end_however_often_that_is_cancelled(
    tmp_path: Path, cancellations: int
) -> None:
    running = process(tmp_path, "trap '' TERM; touch begun; sleep 100 & wait; sleep 100")
    await running.start()
    await begun(tmp_path / "begun")
    ending = asyncio.create_task(running.end())
    for _ in range(cancellations):
        await asyncio.sleep(0)
        ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    assert ending.cancelled() == bool(cancellations)
    assert await running.wait() == 137


async def test_a_hook_that_outlives_the_grace_goes_with_it(tmp_path: Path) -> None:
    running = process(tmp_path, "trap 'exit 0' TERM; touch begun; while :; do sleep 0.01; done")
    await running.start()
    await begun(tmp_path / "begun")
    assert await running.stop(0.05, ["/bin/sh", "-c", "trap '' TERM; sleep 100"]) == 137
    await running.end()
