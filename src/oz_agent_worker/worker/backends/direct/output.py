"""One pipe for all that an execution prints, from its first process to its last."""

import asyncio
import os
from typing import Final

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.worker.backends.base import MAX_OUTPUT_CHUNK, OutputSink

__all__ = ["OutputPipe"]

#: How long, in seconds, to wait for the end of the output if a process could not be ended.
_DRAIN_TIME: Final = 2.0


class OutputPipe:
    """Carries bytes to a sink in the order in which they were written.

    The worker keeps the writing end open until ``drain``: the output goes on after one process
    has ended, and what a setup command left running can still print.
    """

    def __init__(self, sink: OutputSink) -> None:
        """Make the pipe.

        Raises:
            OSError: the process has too many open files.
        """
        self._sink = sink
        reader, self.writer = os.pipe()
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self._transport: asyncio.ReadTransport | None = None
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Begin to carry."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(
            lambda: _Pump(self._sink, self._ended), self._reader
        )

    def discard(self) -> None:
        """Close a pipe that was not opened."""
        os.close(self.writer)
        self._reader.close()

    async def drain(self) -> None:
        """Carry what is left, and close. Every process that wrote has ended, or was given up."""
        os.close(self.writer)
        if self._transport is None:
            return
        if not await wait_for_event(self._ended, _DRAIN_TIME):
            self._transport.close()
            await self._ended.wait()


class _Pump(asyncio.Protocol):
    def __init__(self, sink: OutputSink, ended: asyncio.Event) -> None:
        self._sink = sink
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_OUTPUT_CHUNK):
            self._sink.write(data[start : start + MAX_OUTPUT_CHUNK])

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()
