"""A container's processes on this host, and their end."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.processes import die_with_parent

from .logs import ContainerLog

__all__ = ["ContainerProcess"]


class ContainerProcess:
    """A container's first process and the rest of its process group, which goes with it."""

    def __init__(
        self, command: Sequence[str], directory: Path, variables: Mapping[str, str], log: ContainerLog
    ) -> None:
        self._command = command
        self._directory = directory
        self._variables = variables
        self._log = log

    async def start(self) -> None:
        reading, writing = os.pipe()
        try:
            self._leader = await self._spawn(self._command, writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._output = asyncio.create_task(self._copy_output(reading))

    async def _spawn(self, command: Sequence[str], output: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self._directory,
            env=self._variables,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    async def wait(self) -> int:
        """Return the exit code once the first process has ended and all output is in the log."""
        code = await self._leader.wait()
        self.kill()
        await asyncio.wait([self._output])  # whoever waits may be cancelled and wait again
        return 128 - code if code < 0 else code

    async def stop(self, grace: float, hook: Sequence[str]) -> int:
        """End it as the kubelet ends a container: hook and TERM within ``grace`` seconds, else KILL."""
        try:
            async with asyncio.timeout(grace):
                if hook:
                    await self._run_hook(hook)
                with contextlib.suppress(ProcessLookupError):
                    self._leader.terminate()
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    async def _run_hook(self, hook: Sequence[str]) -> None:
        process = await self._spawn(hook, asyncio.subprocess.DEVNULL)
        try:
            await process.wait()
        finally:
            await _reap(process)

    def kill(self) -> None:
        """Kill whatever is left of the group: a container's processes do not outlive its first one."""
        _kill_group(self._leader)

    async def end(self) -> None:
        """Kill what is left, and read no more of its output; return when the first process is gone."""
        self._output.cancel()
        await _reap(self._leader)

    async def _copy_output(self, reading: int) -> None:
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
        )
        try:
            while data := await stream.read(65536):
                self._log.write(data)
        finally:
            transport.close()


def _kill_group(leader: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)


async def _reap(leader: asyncio.subprocess.Process) -> None:
    """Kill a process group, and wait for its leader's end however often the wait is cancelled.

    A Pod that is deleted may vanish with its node meanwhile, and an event loop that ends before it
    has heard of a process's end leaves that process's transport open.
    """
    _kill_group(leader)
    ending = asyncio.ensure_future(leader.wait())
    cancelled = False
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
