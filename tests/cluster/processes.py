"""A child process with a log file, which never outlives this one."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

from .errors import ClusterError, StartError

__all__ = ["Child", "die_with_parent", "free_ports"]

PR_SET_PDEATHSIG: Final = 1

# Below the range from which the kernel takes ports for outgoing connections (32768 and up, by default):
# while a server is down for a restart, a client that retries could otherwise be given its port.
SERVER_PORTS: Final = range(20_000, 32_000)

# The kernel sends the signal when the *thread* that started the child ends, not the process.
# One thread that lives as long as the process starts them all.
_spawner: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Ask the kernel to kill the calling process when its parent dies (Linux; elsewhere nothing).

    For a child between fork and exec; see prctl(2).
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One program of the cluster. ``start`` again after ``stop`` runs the same command line."""

    def __init__(self, command: Sequence[str | os.PathLike[str]], log: Path) -> None:
        self.command = [os.fspath(part) for part in command]
        self.name = Path(self.command[0]).name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process ID, or None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    def start(self) -> None:
        """Start the program; its stdout and stderr are appended to the log."""
        if self.pid is not None:
            raise ClusterError(f"{self.name} runs already")
        self._process = _spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                start_new_session=True,  # ^C in the terminal is for pytest, which then stops the cluster
                preexec_fn=die_with_parent,
            )

    def stop(self, *, grace: float = 10.0) -> None:
        """End the program: TERM, then KILL after ``grace`` seconds; with no grace, KILL at once."""
        process = self._process
        if process is None:
            return
        if grace > 0 and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        process.kill()
        process.wait()
        self._process = None

    def pause(self) -> None:
        """Freeze the program: its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo ``pause``."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise ClusterError(f"{self.name} does not run")
        self._process.send_signal(number)

    def wait_until(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Poll ``ready`` every 20 ms.

        Raises:
            StartError: the program ended first, or ``timeout`` seconds went by.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if self.pid is None:
                raise StartError(f"{self.name} ended while starting; the end of its log:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} not ready in {timeout:.0f} s; its log ends:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nothing listens on, and that no outgoing connection will be given."""
    found: list[int] = []
    random = Random()  # its own seed: tests that fix the global one would all draw the same ports
    for _ in range(1000):
        port = random.choice(SERVER_PORTS)
        if port not in found and _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"no {count} free ports between {SERVER_PORTS.start} and {SERVER_PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A server binds with this option too, so that connections in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
