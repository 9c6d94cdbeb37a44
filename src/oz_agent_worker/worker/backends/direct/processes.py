"""The processes of a task: starting a command, finding what it left, and ending all of it.

A command leads a session and a process group of its own, but what it starts may leave that
session (setsid(2), as many agents do for their tools) and outlive its parent. Such processes are
found by a mark that every process inherits: an entry of its environment, which Linux shows in
``/proc/<pid>/environ``. Promised is every process of the session, and every process that still
has the mark. A process that leaves the session and clears its environment escapes; only a
container holds that one. Without ``/proc`` only the command's process group is found.

The system reuses the ID of a session when no process of it is left. So a session is identified by
its leader's start time as well, and another session under the same ID is left alone.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import resource
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from oz_agent_worker.contract import MAX_ARGUMENT_BYTES, exec_problem

__all__ = [
    "CommandNotStartedError",
    "ProcessSession",
    "ProcessSet",
    "RunningCommand",
    "boot_id",
    "end_processes",
]

#: How many seconds the worker waits for killed processes to end: a process
#: that waits for a disk cannot be killed.
_KILL_TIME: Final = 5.0
#: How many times to check a process that is in execve(2), and how many seconds between the checks.
_EXEC_POLLS: Final = 100
_EXEC_POLL: Final = 0.002
#: The index of field 51 of proc_pid_stat(5): where the environment ends, 0 during execve(2).
_ENV_END: Final = 48
#: PF_EXITING and PF_KTHREAD (include/linux/sched.h), in field 9 of proc_pid_stat(5).
_EXITING: Final = 0x00000004
_KERNEL_THREAD: Final = 0x00200000
#: The states of a process that has ended: zombie and dead (proc_pid_stat(5), field 3).
_ENDED: Final = (b"Z", b"X")
#: Three quarters of the default stack limit of 8 MiB: the most that arguments and variables may have.
_MOST_ARGUMENTS: Final = 6 * 1024 * 1024


class CommandNotStartedError(Exception):
    """The system did not start the program; the text says why and shows no argument.

    ``too_large``: its arguments and variables are larger than the system passes on.
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class ProcessSession:
    """A session, identified by its leader's process ID and start time.

    ``started`` is in clock ticks since the system booted (proc_pid_stat(5), field 22);
    ``None`` if the leader ended before its start time was read.
    """

    leader: int
    started: int | None

    @classmethod
    def of(cls, leader: int) -> Self:
        """The session that a process leads."""
        return cls(leader, _start_time(leader))


@dataclass(frozen=True, slots=True)
class ProcessSet:
    """Which processes belong to a task.

    ``mark`` is ``NAME=value`` as an environment has it. Processes of ``sessions`` belong without
    it; those of the ``spared`` sessions, given by ID, do not belong even with it. ``orphans``: a
    session whose leader has ended belongs too. If no worker has watched the session since then,
    this must be false, and the session belongs only if one of its processes has the mark.
    """

    mark: bytes | None = None
    sessions: frozenset[ProcessSession] = frozenset()
    spared: frozenset[int] = frozenset()
    orphans: bool = True

    def find(self) -> dict[int, int]:
        """Return the running processes that belong, as process ID to session ID. Blocks.

        A negative ID means a whole process group, as it does for kill(2).
        """
        if not Path("/proc/self/environ").exists():
            groups = [session.leader for session in self.sessions if self.orphans]
            return {-group: group for group in groups if _signal_group(group, 0)}
        running = list(self._running())
        marked = {session for _, session, has_mark in running if has_mark}
        own = {s.leader for s in self.sessions if s.leader in marked or self._is_current(s)}
        return {pid: session for pid, session, has_mark in running if has_mark or session in own}

    def _running(self) -> Iterator[tuple[int, int, bool]]:
        """Yield each running process of the host, with its session and whether it has the mark."""
        own = os.getpid()
        for name in os.listdir("/proc"):  # noqa: PTH208 - it lists every process of the host
            if not name.isdigit() or (pid := int(name)) == own:
                continue
            with contextlib.suppress(OSError):  # the process ended meanwhile
                session = os.getsid(pid)
                if session not in self.spared and _runs(name):
                    yield pid, session, _has_mark(name, self.mark)

    def _is_current(self, session: ProcessSession) -> bool:
        """Whether the ID still means this session."""
        started = _start_time(session.leader)
        return self.orphans if started is None else started == session.started


class RunningCommand:
    """A running command, the leader of its ``session``."""

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
            if error.errno == errno.E2BIG:
                raise CommandNotStartedError(
                    f"{argv[0]}: {_too_large(argv, environment)}", too_large=True
                ) from error
            why = os.strerror(error.errno) if error.errno else "it cannot be started"
            raise CommandNotStartedError(f"{argv[0]}: {why}") from error
        except ValueError as error:  # whose text may show a secret value
            what = "an argument or a variable has a NUL character or is not Unicode text"
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

        The other processes keep their grace if the leader ends first, as a shell does.
        """
        _signal_group(self.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._process.wait()
                await self._wait_group_gone()
        self.kill()
        await self._process.wait()

    async def _wait_group_gone(self) -> None:
        processes = ProcessSet(sessions=frozenset({self.session}))
        for delay in _polling_delays():
            if not _signal_group(self.pid, 0) or not await asyncio.to_thread(processes.find):
                return
            await asyncio.sleep(delay)

    def kill(self) -> None:
        """Kill the process group at once."""
        _signal_group(self.pid, signal.SIGKILL)


def boot_id() -> str:
    """The ID of the system's current boot (random(4)); empty without ``/proc``."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _too_large(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Say which argument or variable is too large, without its value."""
    sizes = ((name, len(os.fsencode(value))) for name, value in environment.items())
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    # A quarter of the stack, between two bounds (execve(2); Linux, bprm_stack_limits).
    quarter = _MOST_ARGUMENTS if stack == resource.RLIM_INFINITY else stack // 4
    total = min(max(quarter, MAX_ARGUMENT_BYTES), _MOST_ARGUMENTS)
    return exec_problem(argv, sizes, total) or "its arguments and variables are too large together"


def _has_mark(pid: str, mark: bytes | None) -> bool:
    if mark is None:
        return False
    try:
        environment = _environment(pid)
    except PermissionError:  # another user's process
        return False
    return b"\0" + mark + b"\0" in b"\0" + environment


def _environment(pid: str) -> bytes:
    """Read a process's environment, which is empty for a moment while the process is in execve(2).

    It may be empty while the process exits too: that is not waited for.
    """
    path = Path("/proc", pid, "environ")
    for _ in range(_EXEC_POLLS):
        if environment := path.read_bytes():
            return environment
        fields = _stat(pid)
        if fields[_ENV_END] != b"0" or fields[0] in _ENDED or int(fields[6]) & _EXITING:
            break
        time.sleep(_EXEC_POLL)
    return path.read_bytes()


def _runs(pid: str) -> bool:
    """Whether it is a process of a program: no zombie and no kernel thread (proc_pid_stat(5))."""
    fields = _stat(pid)
    return fields[0] not in _ENDED and not int(fields[6]) & _KERNEL_THREAD


def _start_time(pid: int) -> int | None:
    try:
        return int(_stat(str(pid))[19])
    except OSError:
        return None


def _stat(pid: str) -> list[bytes]:
    """The fields of ``/proc/<pid>/stat`` from the third on: the second, a name, may hold anything."""
    return Path("/proc", pid, "stat").read_bytes().rpartition(b") ")[2].split()


def _signal_group(group: int, signum: int) -> bool:
    """Signal a process group; return whether there is one that can be signalled."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _polling_delays() -> Iterator[float]:
    """The delays between two polls, in seconds, without end: short at first, then longer."""
    return itertools.chain((0.01, 0.02, 0.04, 0.08, 0.16), itertools.repeat(0.25))


async def end_processes(processes: ProcessSet, grace: float) -> frozenset[int]:
    """End every process of a set: TERM, and after ``grace`` seconds KILL.

    Returns the process IDs of those that could not be ended.
    """
    found = await asyncio.to_thread(processes.find)
    if not found:
        return frozenset()
    _signal_all(found, signal.SIGTERM)
    if not await _wait_gone(processes, grace, None):
        return frozenset()
    return frozenset(await _wait_gone(processes, _KILL_TIME, signal.SIGKILL))


async def _wait_gone(processes: ProcessSet, seconds: float, signum: signal.Signals | None) -> Collection[int]:
    """Poll until no process is left or ``seconds`` are over; send ``signum`` to those that are found."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    for delay in _polling_delays():
        left = await asyncio.to_thread(processes.find)
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
