"""What a burst is held against: the same requests, from a loop that does nothing else."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from tests.cluster.kubeconfig import Connection

from .errors import BenchError

__all__ = ["BareLoop", "Pace"]

#: As many as the worker has; the API server's rate no longer rises with more.
IN_FLIGHT: Final = 32


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast Jobs were created: so many a second, with so many seconds of CPU time for each."""

    rate: float
    cpu: float


class BareLoop:
    """An async context manager: a session with the API server whose connections stay open."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._url = f"{connection.server}/apis/batch/v1/namespaces/{namespace}/jobs"
        self._connection = connection

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._connection.ssl_context, limit=IN_FLIGHT),
            headers={**self._connection.headers, "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def create(self, bodies: Sequence[bytes]) -> Pace:
        """Create a Job of each body and read the answers.

        Raises:
            BenchError: a Job was refused.
        """
        rest = iter(bodies)
        began, cpu_before = time.monotonic(), time.process_time()
        await asyncio.gather(*(self._work(rest) for _ in range(IN_FLIGHT)))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu_before
        return Pace(len(bodies) / seconds, cpu / len(bodies))

    async def _work(self, rest: Iterator[bytes]) -> None:
        for body in rest:
            async with self._session.post(self._url, data=body) as answer:
                text = await answer.read()
                if answer.status != 201:
                    raise BenchError(f"the bare loop's Job was refused: {answer.status} {text[:300]!r}")
