"""Control over the harness's processes, also when the agent or the harness is killed.

No single means covers every case. The kernel kills the harness when the agent dies (PR_SET_PDEATHSIG), and
a guard process then kills the harness's process group. Processes that left the group become the agent's
children when their parent ends (PR_SET_CHILD_SUBREAPER), as they do for process 1 of a container. See
prctl(2). Systems other than Linux have the guard only.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from .errors import HarnessNotExecutableError
from .signals import FORWARDED

__all__ = ["become_subreaper", "children", "die_with_parent", "group_guard", "kill_group"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def _prctl() -> Callable[[int, int], int]:
    if sys.platform != "linux":
        return lambda _option, _value: -1
    prctl = ctypes.CDLL(None).prctl
    zero = ctypes.c_ulong(0)
    return lambda option, value: int(prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def become_subreaper() -> None:
    """Become the parent of descendants whose own parent ends; without effect outside Linux."""
    _prctl()(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> Callable[[], None]:
    """Return a function for the child, between fork and exec: the kernel kills it when the agent dies."""
    prctl, agent = _prctl(), os.getpid()

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:  # the agent died before the request
            os._exit(128 + signal.SIGKILL)

    return set_death_signal


def children() -> frozenset[int]:
    """Return the process IDs of this process's children; empty where the kernel does not list them."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return frozenset()
    return frozenset(int(pid) for pid in text.split())


def kill_group(group: int, signum: int) -> bool:
    """Send a signal to a process group; False when it has no process left."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: every member has ended, and one is not yet reaped
        return True
    return True


@contextlib.contextmanager
def group_guard() -> Iterator[Callable[[], object]]:
    """Keep a process that kills a process group when the agent ends, even by SIGKILL.

    Yields a function that the group's first process calls between fork and exec, so that the guard knows
    the group before any program runs in it. The guard has a session of its own, so that signals to the
    agent's group do not reach it, and reads a pipe: end of file means that the agent, or this context, ended.

    Raises:
        HarnessNotExecutableError: the system can start no process.
    """
    if os.getpid() == 1:  # the kernel kills all of a container when its process 1 ends
        yield lambda: None
        return
    reader, writer = os.pipe()
    try:
        guard = os.fork()
    except OSError as error:
        raise HarnessNotExecutableError(f"no process can be started: {error.strerror}") from error
    if guard == 0:
        try:
            _guard(reader, writer)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield lambda: os.write(writer, os.getpid().to_bytes(8, "little"))
    finally:
        os.close(writer)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(guard, 0)


def _guard(reader: int, writer: int) -> None:
    """The guard process: wait for the end of the pipe, then kill the group that it names."""
    signal.set_wakeup_fd(-1)
    for signum in FORWARDED:
        signal.signal(signum, signal.SIG_IGN)
    os.close(writer)
    os.setsid()
    # A reader of the agent's output must see end of file when the agent ends.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    group = os.read(reader, 8)
    if group:
        os.read(reader, 1)
        kill_group(int.from_bytes(group, "little"), signal.SIGKILL)
