"""Keeping hold of the harness's processes, whatever becomes of either side.

Three means, since none covers all: the kernel kills the harness when the agent dies
(PR_SET_PDEATHSIG), a guard process kills the harness's process group then, and
processes that left the group are handed to the agent when their parent ends
(PR_SET_CHILD_SUBREAPER), as they are to process 1 of a container. See prctl(2).
Where the system is not Linux, the guard alone remains.
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
from .signals import PASSED_ON

__all__ = ["adopt_orphans", "children", "die_with_parent", "guarding", "kill_group"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def _prctl() -> Callable[[int, int], int]:
    if sys.platform != "linux":
        return lambda _option, _value: -1
    prctl = ctypes.CDLL(None).prctl
    zero = ctypes.c_ulong(0)
    return lambda option, value: int(prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends; without effect off Linux."""
    _prctl()(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> Callable[[], None]:
    """Return a function for the child, between fork and exec: SIGKILL when the agent dies."""
    prctl, agent = _prctl(), os.getpid()

    def ask_for_death() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:  # it died before the request stood
            os._exit(128 + signal.SIGKILL)

    return ask_for_death


def children() -> frozenset[int]:
    """Return the process IDs of this process's children; empty where the kernel does not tell."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return frozenset()
    return frozenset(int(pid) for pid in text.split())


def kill_group(group: int, signum: int) -> bool:
    """Send a signal to a process group; False when no process of it is left."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: every member has ended, and one is not yet reaped
        return True
    return True


@contextlib.contextmanager
def guarding() -> Iterator[Callable[[], None]]:
    """Keep a process that kills a process group when the agent ends, even by SIGKILL.

    Yields a function that the group's first process calls between fork and exec: so the
    guard knows the group before anything can run in it. The guard sits in a session of
    its own, where what is sent to the agent's group does not reach it, and reads a pipe:
    the end of the file is the end of the agent, or of this context.

    Raises:
        HarnessNotExecutableError: the system has no process left to give.
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
            _watch(reader, writer)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield lambda: _enlist(writer)
    finally:
        os.close(writer)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(guard, 0)


def _enlist(writer: int) -> None:
    os.write(writer, os.getpid().to_bytes(8, "little"))


def _watch(reader: int, writer: int) -> None:
    signal.set_wakeup_fd(-1)
    for signum in PASSED_ON:
        signal.signal(signum, signal.SIG_IGN)
    os.close(writer)
    os.setsid()
    # Whoever reads the agent's output must see its end when the agent ends.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    group = os.read(reader, 8)
    if group:
        os.read(reader, 1)
        kill_group(int.from_bytes(group, "little"), signal.SIGKILL)
