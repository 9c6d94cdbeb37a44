"""The worker under measurement: its own process, started as an operator starts it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tests.cluster.cache import progress
from tests.cluster.processes import die_with_parent

from . import procfs
from .control_plane import API_KEY, ControlPlane
from .errors import BenchError
from .procfs import Cpu, Memory

__all__ = ["WORKER_ID", "Start", "WorkerFiles", "WorkerProcess", "preflight_seconds", "running_worker"]

WORKER_ID: Final = "bench"

WARNING_LINE: Final = re.compile(r"^\S+ (WARN|ERROR)\b")
PREFLIGHT: Final = re.compile(r"Preflight passed in ([0-9.]+) s")
LISTENING: Final = b"Listening for tasks"
START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0

#: Variables of the machine that would change what the worker does.
UNWANTED: Final = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "WARP_API_KEY")


@dataclass(frozen=True, slots=True)
class WorkerFiles:
    """What a worker reads and writes: a kubeconfig, and a folder for its config file and log."""

    kubeconfig: Path
    namespace: str
    folder: Path

    def write_config(self) -> Path:
        """Write the config file and return its path."""
        path = self.folder / f"{self.namespace}.yaml"
        settings = {"namespace": self.namespace, "kubeconfig": str(self.kubeconfig)}
        path.write_text(yaml.safe_dump({"backend": {"kubernetes": settings}}))
        return path

    @property
    def log(self) -> Path:
        """Where the worker's log goes. To a file, because a full pipe would slow the worker down."""
        return self.folder / f"{self.namespace}.log"


@dataclass(frozen=True, slots=True)
class Start:
    """How long a worker took until it listened for tasks, and how much of that its preflight; seconds.

    The preflight's time is as its log has it, to a tenth: it waits for Pods.
    """

    whole: float
    preflight: float

    @property
    def own(self) -> float:
        """The start without the preflight."""
        return self.whole - self.preflight


class WorkerProcess:
    """A worker that listens for tasks."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, start: Start) -> None:
        self.start = start
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raise BenchError where the worker has died."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"the worker ended with exit code {code}; its log ends:\n{_tail(self._log)}")

    def cpu(self) -> Cpu:
        """The CPU time that it has used so far."""
        return procfs.cpu(self._process.pid)

    async def settled_memory(self, *, timeout: float = 10.0) -> Memory:
        """Its memory, once that has not changed for a second; or after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        last, since = procfs.memory(self._process.pid), time.monotonic()
        while time.monotonic() < min(since + 1.0, deadline):
            await asyncio.sleep(0.1)
            found = procfs.memory(self._process.pid)
            if found.resident != last.resident:
                last, since = found, time.monotonic()
        return procfs.memory(self._process.pid)

    async def stop(self) -> None:
        """End it with TERM.

        Raises:
            BenchError: it does not end, or not with exit code 0.
        """
        self.check()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self._process.wait, STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the worker has not ended {STOP_TIMEOUT:.0f} s after TERM") from None
        if code != 0:
            raise BenchError(f"the worker ended with exit code {code}; its log ends:\n{_tail(self._log)}")


@asynccontextmanager
async def running_worker(files: WorkerFiles, peer: ControlPlane) -> AsyncIterator[WorkerProcess]:
    """Start a worker, and end it at the end; where the block fails it is killed.

    Raises:
        BenchError: it does not come to listen, or does not end well.
    """
    log = files.log
    log.write_bytes(b"")
    command = [
        sys.executable, "-m", "oz_agent_worker",
        "--worker-id", WORKER_ID,
        "--backend", "kubernetes",
        "--config-file", str(files.write_config()),
        "--web-socket-url", peer.web_socket_url,
        "--server-root-url", peer.root_url,
    ]  # fmt: skip
    with log.open("ab") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(os.environ),
            preexec_fn=die_with_parent,
        )
    try:
        worker = WorkerProcess(process, log, await _listening(process, log, began))
        yield worker
        await worker.stop()
    finally:
        process.kill()
        process.wait()
        _show_warnings(log)


async def _listening(process: subprocess.Popen[bytes], log: Path, began: float) -> Start:
    # Finer than `until` waits: the time of the log's line is the figure.
    while LISTENING not in log.read_bytes():
        now = time.monotonic()
        if process.poll() is not None or now > began + START_TIMEOUT:
            raise BenchError(f"the worker does not listen; its log ends:\n{_tail(log)}")
        await asyncio.sleep(0.002)
    return Start(time.monotonic() - began, preflight_seconds(log.read_text()))


def preflight_seconds(log: str) -> float:
    """Read how long the preflight took; 0 where there was none."""
    found = PREFLIGHT.search(log)
    return float(found[1]) if found else 0.0


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in UNWANTED}
    return kept | {"WARP_API_KEY": API_KEY}


def _show_warnings(log: Path, most: int = 3) -> None:
    """Show what the worker warned of: it explains figures that are out of line."""
    found = [line for line in log.read_text(errors="replace").splitlines() if WARNING_LINE.search(line)]
    for line in found[:most]:
        progress(f"  the worker's log: {line}")
    if len(found) > most:
        progress(f"  and {len(found) - most} more such lines")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
