"""Finding a task's processes, and ending them.

A command leads a session of its own, but what it starts may leave that session
(setsid(2), as many agents do for their tools) and outlive its parent. Such processes are
found by a mark that every process inherits: an entry of its environment, which Linux
shows in ``/proc/<pid>/environ``. What is promised: every process of the session, and
every process that still has the mark. A process that does both, leaves the session and
clears its environment, escapes; only a container holds that one. Without ``/proc`` the
command's process group is all that is found.

The system gives the ID of a session again when no process of it is left, so a session is
known by its leader's start time as well: a stranger under the same number is left alone.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

__all__ = ["ProcessSession", "ProcessSet", "boot_id", "end_kin", "polling_delays", "signal_group"]

#: How long killed processes may take to go, in seconds, before they are given up: one
#: that waits for a disk cannot be killed.
_BURIAL_TIME: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProcessSession:
    """A session by its leader's process ID and start time.

    ``started`` is in clock ticks since the system booted (proc_pid_stat(5), field 22), and
    ``None`` where the leader ended before it was seen.
    """

    leader: int
    started: int | None

    @classmethod
    def of(cls, leader: int) -> Self:
        """Name the session that a process leads."""
        return cls(leader, _start_time(leader))


@dataclass(frozen=True, slots=True)
class ProcessSet:
    """Which processes belong to a task.

    ``mark`` is ``NAME=value`` as an environment has it. ``sessions`` belong without it, the
    ``spared`` ones, by ID, do not belong although they have it. ``orphans``: a session whose
    leader is gone belongs too; where nobody has watched it since, false, and one of its
    processes must have the mark.
    """

    mark: bytes | None = None
    sessions: frozenset[ProcessSession] = frozenset()
    spared: frozenset[int] = frozenset()
    orphans: bool = True

    def find(self) -> dict[int, int]:
        """Return the session of each process that belongs and runs, by its process ID. Blocks.

        A negative ID stands for a whole process group, as it does for kill(2).
        """
        if not Path("/proc/self/environ").exists():
            groups = [session.leader for session in self.sessions if self.orphans]
            return {-group: group for group in groups if signal_group(group, 0)}
        census = list(self._census())
        marked = {session for _, session, has_mark in census if has_mark}
        own = {s.leader for s in self.sessions if s.leader in marked or self._stands(s)}
        return {pid: session for pid, session, has_mark in census if has_mark or session in own}

    def _census(self) -> Iterator[tuple[int, int, bool]]:
        """Yield each process that runs, with its session and whether it has the mark."""
        own = os.getpid()
        for name in os.listdir("/proc"):  # noqa: PTH208 - it lists every process of the host
            if not name.isdigit() or (pid := int(name)) == own:
                continue
            with contextlib.suppress(OSError):  # it ended meanwhile
                session = os.getsid(pid)
                if session not in self.spared and _runs(name):
                    yield pid, session, _has_mark(name, self.mark)

    def _stands(self, session: ProcessSession) -> bool:
        started = _start_time(session.leader)
        return self.orphans if started is None else started == session.started


def boot_id() -> str:
    """Name the time since the system booted (random(4)); empty where there is no ``/proc``."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _has_mark(pid: str, mark: bytes | None) -> bool:
    if mark is None:
        return False
    try:
        environment = Path("/proc", pid, "environ").read_bytes()
    except PermissionError:  # another user's
        return False
    return b"\0" + mark + b"\0" in b"\0" + environment


def _runs(pid: str) -> bool:
    """Whether it is more than a zombie, which is for its parent to reap (proc_pid_stat(5))."""
    return _stat(pid)[0] not in (b"Z", b"X")


def _start_time(pid: int) -> int | None:
    try:
        return int(_stat(str(pid))[19])
    except OSError:
        return None


def _stat(pid: str) -> list[bytes]:
    """The fields of ``/proc/<pid>/stat`` from the third on: the second, a name, may hold anything."""
    return Path("/proc", pid, "stat").read_bytes().rpartition(b") ")[2].split()


def signal_group(group: int, signum: int) -> bool:
    """Signal a process group; whether there is one that can be signalled."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def polling_delays() -> Iterator[float]:
    """Yield how long to wait between two looks, in seconds: at first short, then longer."""
    delay = 0.01
    while True:
        yield delay
        delay = min(delay * 2, 0.25)


async def end_kin(kin: ProcessSet, grace: float) -> frozenset[int]:
    """End every process that belongs: TERM, and after ``grace`` seconds KILL.

    Returns the process IDs of those that could not be ended.
    """
    found = await asyncio.to_thread(kin.find)
    if not found:
        return frozenset()
    _signal_all(found, signal.SIGTERM)
    if not await _wait_gone(kin, grace, None):
        return frozenset()
    return frozenset(await _wait_gone(kin, _BURIAL_TIME, signal.SIGKILL))


async def _wait_gone(kin: ProcessSet, seconds: float, signum: signal.Signals | None) -> Collection[int]:
    """Look until none is left or the time is over; ``signum`` goes to whatever is found."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    for delay in polling_delays():
        left = await asyncio.to_thread(kin.find)
        if left and signum is not None:
            _signal_all(left, signum)
        if not left or loop.time() >= end:
            return left
        await asyncio.sleep(min(delay, max(0.0, end - loop.time())))
    raise AssertionError("the delays do not end")


def _signal_all(processes: Collection[int], signum: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)
