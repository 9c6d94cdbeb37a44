"""The product's programs as real processes, for tests that make whole journeys."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.timeouts import HANG_TIMEOUT

__all__ = ["ControlPlane", "Program", "beside", "control_plane", "environment", "oz", "program", "worker"]

T = TypeVar("T")

BIN = Path(sys.executable).parent


def environment(state: Path, **more: str) -> dict[str, str]:
    """A user's environment: nothing of the tests' own control planes, a state folder of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "XDG_STATE_HOME": str(state), **more}


@dataclass
class Program:
    """A running program; ``lines`` is all that it has printed so far, both streams as one."""

    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def follow(self) -> None:
        """Read what is printed until the end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, text: str, timeout: float = HANG_TIMEOUT) -> str:
        """Return the first line with a text, as soon as it is printed."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = next((line for line in self.lines if text in line), None)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    printed = "\n".join(self.lines[-40:])
                    raise AssertionError(f"{text!r} was not printed; what was:\n{printed}")
                self._changed.wait(min(left, 0.5))

    @property
    def text(self) -> str:
        """All that it has printed."""
        return "\n".join(self.lines)


@contextmanager
def program(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Program]:
    """Run a program; SIGTERM at the end of the block, and an error where that does not end it."""
    process = subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Program(process)
    reader = threading.Thread(target=running.follow)
    reader.start()
    try:
        yield running
    finally:
        process.terminate()
        try:
            process.wait(HANG_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.wait()
            reader.join()
            assert process.stdout is not None
            process.stdout.close()


@dataclass(frozen=True)
class ControlPlane:
    """A control plane process, and a key for it."""

    program: Program
    url: str
    key: str
    state: Path

    def env(self) -> dict[str, str]:
        """The environment of a user of this control plane."""
        return environment(self.state, WARP_SERVER_ROOT_URL=self.url, WARP_API_KEY=self.key)

    def oz(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a user's command against it."""
        return oz(*arguments, env=self.env(), check=check)

    def runs(self) -> list[dict[str, Any]]:
        """All its runs."""
        listed: list[dict[str, Any]] = json.loads(self.oz("runs", "--all", "-o", "json").stdout)
        return listed


def oz(*arguments: str, env: Mapping[str, str], check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run an ``oz-agent-worker`` command to its end."""
    return subprocess.run(
        [BIN / "oz-agent-worker", *arguments],
        env=dict(env),
        capture_output=True,
        text=True,
        check=check,
        timeout=HANG_TIMEOUT,
    )


@contextmanager
def control_plane(state: Path, *flags: str) -> Iterator[ControlPlane]:
    """Make a key and serve a control plane on a free port."""
    env = environment(state)
    key = oz("control-plane", "create-key", "tests", env=env).stdout.strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BIN / "oz-agent-worker"), "control-plane", "--port", str(port), *flags]
    with program(command, env) as running:
        running.wait_for("Workers connect to")
        yield ControlPlane(running, f"http://127.0.0.1:{port}", key, state)


@contextmanager
def worker(plane: ControlPlane, *flags: str, worker_id: str = "w1") -> Iterator[Program]:
    """Run a worker of that control plane until it listens, and on."""
    command = [
        str(BIN / "oz-agent-worker"),
        "--worker-id",
        worker_id,
        "--web-socket-url",
        plane.url.replace("http", "ws", 1) + "/api/v1/selfhosted/worker/ws",
        "--server-root-url",
        plane.url,
        *flags,
    ]
    env = environment(plane.state, WARP_API_KEY=plane.key)
    with program(command, env) as running:
        running.wait_for("Listening for tasks")
        yield running


@asynccontextmanager
async def beside(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Start and end a program without holding up the event loop, on which its kubelet is played."""
    started = await asyncio.to_thread(manager.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
