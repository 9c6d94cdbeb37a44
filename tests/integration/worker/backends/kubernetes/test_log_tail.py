"""The ends of logs, short and long, read through a real API server from a kubelet that is played."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.connections import ApiConnections
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import LogPosition, LogReader
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours

from .worker import running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

LIMIT = 20_000


class Log(NamedTuple):
    """The log of a container that has ended, and a client to read it with."""

    client: KubernetesClient
    namespace: str
    pod: str

    async def whole(self) -> bytes:
        """All of it, timestamps included."""
        request = rest.read_log(self.namespace, self.pod, "task", timestamps=True)
        return (await self.client.exchange(request)).body

    async def rest_after(self, position: LogPosition) -> tuple[bytes, str]:
        """The end of what follows the position, and what is missing of it."""
        log = await self.client.read_log(self.namespace, self.pod, "task", after=position, limit_bytes=LIMIT)
        return b"".join(log.chunks()), log.omission

    async def end(self) -> tuple[bytes, str]:
        """The end of it all, timestamps included, and what is missing of it."""
        tail = await self.client.read_log(
            self.namespace, self.pod, "task", limit_bytes=LIMIT, timestamps=True
        )
        return b"".join(tail.chunks()), tail.omission


@asynccontextmanager
async def written(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, output: bytes
) -> AsyncIterator[Log]:
    """Have a task write its output, and end."""
    kubeconfig = api_tier.kubeconfig("worker")
    script = behaviours.succeed(output=output)
    async with (
        kubelet(behaviours.always(script)),
        running_backend(kubeconfig, namespace) as backend,
        KubernetesClient(load_credentials(str(kubeconfig), environ={})) as client,
    ):
        execution = await backend.launch(task("writes"), NoOutput())
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
        answer: Any = api_tier.client().get(f"/api/v1/namespaces/{namespace}/pods")
        yield Log(client, namespace, answer["items"][0]["metadata"]["name"])


def position_after(log: bytes, lines: int) -> LogPosition:
    """How far a log was read that broke off after so many lines, and in the middle of one more."""
    reader = LogReader()
    parts = log.splitlines(keepends=True)
    reader.feed(b"".join(parts[:lines]) + b"".join(parts[lines : lines + 1])[:-2])
    return reader.position


@pytest.mark.parametrize(
    "lines",
    [
        [b"short"],
        [b"x" * 50] * 3000,
        [b"%d" % number for number in range(20_000)],
        [b"", *[b"y" * 9000] * 12, b"z"],
    ],
    ids=["short", "long", "short lines", "long lines"],
)
async def test_the_end_of_a_log_is_the_same_however_much_of_it_is_read(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, lines: list[bytes]
) -> None:
    output = b"".join(line + b"\n" for line in lines)
    async with written(api_tier, namespace, kubelet, output) as log:
        whole = await log.whole()
        kept, omission = await log.end()
        assert kept == whole[-LIMIT:]
        assert bool(omission) is (len(whole) > LIMIT)
        for read in (0, len(lines) // 2, max(0, len(lines) - 2), len(lines)):
            left = output[
                sum(len(line) + 1 for line in lines[:read]) + len(b"".join(lines[read : read + 1])[:-1]) :
            ]
            kept, omission = await log.rest_after(position_after(whole, read))
            assert kept == left[-LIMIT:]
            assert bool(omission) is (len(left) > LIMIT)


async def test_the_limit_is_kept_of_a_log_whose_lines_grow_shorter_and_the_gap_is_marked(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    output = (b"w" * 900 + b"\n") * 60 + b".\n" * 5000
    async with written(api_tier, namespace, kubelet, output) as log:
        whole = await log.whole()
        kept, omission = await log.end()
    assert kept == whole[-LIMIT:]
    assert omission == f"all but the last {LIMIT} bytes of the log are left out here"


async def test_of_a_log_of_many_times_the_limit_little_more_than_the_limit_is_read(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = 0
    chunks = ApiConnections.chunks

    async def counted(self: ApiConnections, response: Any) -> AsyncIterator[bytes]:
        nonlocal received
        async for chunk in chunks(self, response):
            received += len(chunk)
            yield chunk

    async with written(api_tier, namespace, kubelet, b"0123456789abcde\n" * 100_000) as log:
        monkeypatch.setattr(ApiConnections, "chunks", counted)
        kept, omission = await log.end()
        asked = log.client.stats.count("get", "pods/log")
    assert (len(kept), omission) == (LIMIT, f"all but the last {LIMIT} bytes of the log are left out here")
    assert received <= 5 * LIMIT
    assert asked <= 4
