"""A real Docker engine, started and stopped by the tests, with its own data and socket.

It has no bridge and sets no packet filter: containers run without a network, or with the
host's. Root is needed, for mounts.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.cluster.errors import ClusterError
from tests.cluster.packages import engine_programs
from tests.timeouts import HANG_TIMEOUT

__all__ = ["DockerEngine", "EngineError", "obstacle"]

#: In seconds: a start on a busy machine; a stop with containers.
STOPPED: Final = 30.0


class EngineError(ClusterError):
    """The engine did not start, or a command of its client failed."""


def obstacle() -> str | None:
    """Say why no engine can run here; ``None``: it can be tried."""
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    return None


class DockerEngine:
    """A context manager. ``programs`` are those of ``packages.engine_programs``."""

    def __init__(self) -> None:
        self.programs = engine_programs()
        # A path of a socket has 107 bytes at most (unix(7)).
        self.folder = Path(tempfile.mkdtemp(prefix="oz-docker-", dir="/tmp"))
        self._log = self.folder / "log"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """The engine's address, as DOCKER_HOST has it."""
        return f"unix://{self.folder}/socket"

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            EngineError: it did not become ready; the text has the end of its log.
        """
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop it with all that it runs, and remove its data."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGTERM)
            try:
                self._daemon.wait(STOPPED)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        for mount in _mounts_below(self.folder):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str | Path, stdin: Path | None = None, timeout: float = 600.0) -> str:
        """Call the client and return what it prints, without the white space at the end.

        Raises:
            EngineError: it failed; the text has the end of its log.
        """
        done = self.call(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise EngineError(f"docker {arguments[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
        return done.stdout.rstrip()

    def call(
        self, *arguments: str | Path, stdin: Path | None = None, timeout: float = 600.0
    ) -> "subprocess.CompletedProcess[str]":
        """Call the client, whatever comes of it."""
        command: Sequence[str | Path] = (self.programs["docker"], *arguments)
        with (stdin or Path(os.devnull)).open("rb") as source:
            return subprocess.run(
                command,
                stdin=source,
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )

    def _environment(self) -> Mapping[str, str]:
        folders = {str(path.parent) for path in self.programs.values()}
        return {
            **os.environ,
            "PATH": os.pathsep.join([*sorted(folders), os.environ.get("PATH", os.defpath)]),
            "DOCKER_HOST": self.host,
            "DOCKER_CONFIG": str(self.folder / "config"),
            # The classic builder: BuildKit's needs a plug-in that not every client has.
            "DOCKER_BUILDKIT": "0",
        }

    def _start(self) -> None:
        command = [
            str(self.programs["dockerd"]),
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            f"--host={self.host}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ]
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
            )
        end = time.monotonic() + HANG_TIMEOUT
        while self.call("version", timeout=30.0).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > end:
                output = self._log.read_text(errors="replace")[-2000:]
                raise EngineError(f"the Docker engine did not become ready: {output}")
            time.sleep(0.2)


def _mounts_below(folder: Path) -> list[str]:
    """Mount points below a folder, the innermost first (proc_pid_mountinfo(5))."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return sorted((p for p in points if Path(p).is_relative_to(folder)), reverse=True)
