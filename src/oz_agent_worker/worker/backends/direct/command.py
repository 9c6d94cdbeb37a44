"""A command of a task: a process that leads a session and a process group of its own."""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from .processes import ProcessSession, ProcessSet, polling_delays, signal_group

__all__ = ["CommandNotStartedError", "RunningCommand"]


class CommandNotStartedError(Exception):
    """The system did not start the program; the text says why and shows no argument."""


class RunningCommand:
    """A running command, which leads its ``session``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.session = ProcessSession.of(process.pid)

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str], output: int
    ) -> Self:
        """Start ``argv`` in ``directory``; stdout and stderr go to the descriptor ``output``.

        Raises:
            CommandNotStartedError: the program cannot be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=directory,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandNotStartedError(f"{argv[0]}: {_why(error)}") from error
        except ValueError as error:  # its text may show the value
            what = "an argument or a variable holds a NUL character or is no Unicode text"
            raise CommandNotStartedError(f"{argv[0]}: {what}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The ID of the process, and of the process group and session that it leads."""
        return self._process.pid

    async def wait(self) -> int:
        """Return the exit code, 128 + N after signal N. Processes that it started may go on."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def stop(self, grace: float) -> None:
        """End the process group: TERM, and after ``grace`` seconds KILL.

        A leader that ends first, as a shell does, does not cut the grace of the others.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        signal_group(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout_at(end):
                await self._process.wait()
                await self._wait_group_gone()
        except TimeoutError:
            pass
        self.kill()
        await self._process.wait()

    async def _wait_group_gone(self) -> None:
        kin = ProcessSet(sessions=frozenset({self.session}))
        for delay in polling_delays():
            if not signal_group(self.pid, 0) or not await asyncio.to_thread(kin.find):
                return
            await asyncio.sleep(delay)

    def kill(self) -> None:
        """Kill the process group at once."""
        signal_group(self.pid, signal.SIGKILL)


def _why(error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return "the arguments and the environment are larger than the system allows"
    return os.strerror(error.errno) if error.errno else "it cannot be started"
