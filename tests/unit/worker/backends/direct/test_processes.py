"""How often the environment of a process is read."""

import os
import time
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.direct.processes import ProcessSet

PID = "4194303"
SLEEPING, EXITING, ZOMBIE = (b"S", 0x400000), (b"R", 0x400004), (b"Z", 0x400004)


class Process:
    """The files in ``/proc`` of the only process; each read of ``stat`` shows the next state."""

    def __init__(self, *states: tuple[bytes, int], environ: tuple[bytes, ...] = (), env_end: int = 0) -> None:
        self._states = list(states)
        self._environ = list(environ)
        self._env_end = env_end
        self.environ_reads = 0
        self.slept = 0.0

    def read(self, path: Path) -> bytes:
        if path.name == "environ":
            self.environ_reads += 1
            return self._environ.pop(0) if self._environ else b""
        state, flags = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        fields = [state, *[b"0"] * 5, b"%d" % flags, *[b"0"] * 41, b"%d" % self._env_end, b"0"]
        return b" ".join((PID.encode(), b"(a) b)", *fields))

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def find(process: Process, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", lambda _folder: ["self", PID])
        patched.setattr(os, "getsid", int)
        patched.setattr(Path, "read_bytes", lambda path: process.read(path))
        patched.setattr(time, "sleep", process.sleep)
        return list(ProcessSet(b"MARK=x").find())


def test_a_process_in_execve_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(SLEEPING, environ=(b"", b"", b"A=b\0MARK=x\0"))
    assert find(process, monkeypatch) == [int(PID)]


def test_the_wait_for_execve_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(SLEEPING)
    assert find(process, monkeypatch) == []
    assert 0.01 <= process.slept <= 0.25


@pytest.mark.parametrize("end", [EXITING, ZOMBIE])
def test_a_process_that_exits_is_not_waited_for(
    end: tuple[bytes, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(SLEEPING, end)
    assert find(process, monkeypatch) == []
    assert (process.slept, process.environ_reads) == (0, 2)


def test_an_empty_environment_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(SLEEPING, env_end=1)
    assert find(process, monkeypatch) == []
    assert process.slept == 0
