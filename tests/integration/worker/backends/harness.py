"""What the backend contract needs of a backend under test, and what it watches the agent with."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import InstanceShape
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import AdoptableExecution, Backend
from oz_agent_worker.worker.task_spec import TaskSpec
from tests.timeouts import HANG_TIMEOUT

__all__ = [
    "WORKER_ENVIRON",
    "Harness",
    "Recorder",
    "Scratch",
    "eventually",
    "is_running",
    "leave_alone",
    "task_spec",
]

#: The longest that anything may take, in seconds: only a test that fails gets there.

#: The worker's environment in every test; the agent's shell needs a PATH.
WORKER_ENVIRON: Final = {
    "PATH": os.environ.get("PATH", os.defpath),
    "WARP_API_KEY": "the-worker's-own-key",
    "WORKER_ONLY": "not for agents",
}


def leave_alone(found: AdoptableExecution) -> None:
    """Take nothing over."""


class Harness(Protocol):
    """A kind of backend, ready to be tested.

    ``streams``: output arrives while the task runs. ``scratch`` is seen by the agent too.
    """

    streams: bool
    scratch: "Scratch"

    def agent(self, script: str) -> None:
        """Decide what the agent's program does from here on: a ``/bin/sh`` script, run with its arguments."""
        ...

    async def backend(
        self, *, cleanup: bool = True, found: Callable[[AdoptableExecution], None] = leave_alone
    ) -> Backend:
        """Start a backend with ``WORKER_ENVIRON``; it is closed at the end of the test.

        A second one is the same worker after a restart; ``found`` gets the executions that the first left.
        """
        ...

    async def left(self) -> list[str]:
        """Name the traces of executions: workspaces, or Jobs and Pods."""
        ...


class Scratch:
    """A folder in which the agent leaves notes for the test, and the test for the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def script(self, body: str) -> str:
        """Give a script ``note NAME TEXT``, which appends a line, and ``hold NAME``, which waits for one."""
        return (
            f"scratch='{self.folder}'\n"
            'note() { printf "%s\\n" "$2" >> "$scratch/$1"; }\n'
            'hold() { while [ ! -e "$scratch/$1" ]; do sleep 0.02; done; }\n'
            f"{body}\n"
        )

    def note(self, name: str) -> None:
        """Leave a note for the agent."""
        (self.folder / name).touch()

    def lines(self, name: str) -> list[str]:
        """Return the whole lines that the agent noted."""
        path = self.folder / name
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    async def noted(self, name: str) -> str:
        """Wait for the agent's first line under this name."""
        await eventually(lambda: bool(self.lines(name)))
        return self.lines(name)[0]


class Recorder:
    """An output sink that keeps what it gets."""

    wanted = True

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        """Keep a chunk."""
        self.chunks.append(chunk)

    @property
    def data(self) -> bytes:
        """All bytes in the order of their arrival."""
        return b"".join(self.chunks)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until a condition holds; it is looked at often, and may look at a cluster."""
    async with asyncio.timeout(HANG_TIMEOUT):
        while True:
            holds = condition()
            if holds is True or (isinstance(holds, Awaitable) and await holds):
                return
            await asyncio.sleep(0.01)


def is_running(pid: int | str) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in b"ZX"


def task_spec(
    *arguments: str,
    task_id: str | None = None,
    execution_id: str | None = None,
    environment: Mapping[str, str] | None = None,
    harness: str | None = None,
) -> TaskSpec:
    """Make a spec of an execution that no other test has."""
    task_id = f"task-{uuid.uuid4()}" if task_id is None else task_id
    return TaskSpec(
        key=ExecutionKey(task_id, execution_id or task_id),
        title="A task of the backend contract",
        arguments=arguments,
        environment={name: Secret(value) for name, value in (environment or {}).items()},
        image="ubuntu:22.04",
        sidecars=(),
        shape=InstanceShape(),
        harness=harness,
    )
