"""Mount and process namespaces for a node: whatever runs in them ends, and is undone, with them."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.errors import StartError
from tests.cluster.processes import Child
from tests.timeouts import HANG_TIMEOUT

from . import init

__all__ = ["Sandbox", "namespace_of", "processes_in"]


class Sandbox:
    """The namespaces, kept by process 1 of theirs (``init.py``), which dies with this process.

    ``folder`` must exist; the sandbox and the machine both see it.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        command = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc"]
        # Isolated: no path of the environment, so that only the standard library is found.
        self._unshare = Child([*command, sys.executable, "-I", init.__file__, str(folder)], log)
        self._namespace: str | None = None
        self._init: int | None = None

    def start(self) -> None:
        """Make the namespaces.

        Raises:
            StartError: the kernel refuses it, or a mount.
        """
        self._unshare.start()
        self._unshare.wait_until((self._folder / init.READY).exists, timeout=HANG_TIMEOUT)
        self._init = next(children_of(self._unshare.pid or 0), None)
        if self._init is None:
            raise StartError(f"the node's process 1 is gone; its log ends:\n{self._unshare.tail()}")
        self._namespace = namespace_of(self._init)

    def command(self, *command: str | Path) -> list[str]:
        """Return the command line that runs a program inside."""
        return ["nsenter", "--target", str(self._init), "--mount", "--pid", *map(str, command)]

    def close(self) -> None:
        """Kill everything inside, and return when it is gone.

        Raises:
            StartError: something cannot be killed.
        """
        if self._init is not None:
            with suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        self._unshare.stop(grace=10.0)
        self._init = None

    def processes(self) -> list[int]:
        """The IDs, as the machine counts, of all processes inside; also after the end."""
        return [] if self._namespace is None else list(processes_in(self._namespace))


def processes_in(namespace: str) -> Iterator[int]:
    """Yield the processes of a process namespace (pid_namespaces(7)), not of those nested in it."""
    for pid in _all_processes():
        with suppress(OSError):
            if namespace_of(pid) == namespace:
                yield pid


def namespace_of(pid: int) -> str:
    """Name the process namespace of a process."""
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def children_of(parent: int) -> Iterator[int]:
    """Yield the children of a process."""
    for pid in _all_processes():
        with suppress(OSError):
            # proc_pid_stat(5): the second field, the name, is in parentheses and may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield pid


def _all_processes() -> Sequence[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
