"""The harness's process: start it, pass signals on, reap, and leave nothing behind.

The harness inherits the agent's stdout and stderr. The agent has nothing to do to its
lines, and so what it prints is live to the byte: no buffer, no thread, no copy, no line
too long, and a terminal stays a terminal.
"""

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .errors import ExitCode, HarnessNotExecutableError, HarnessNotFoundError
from .process_tree import adopt_orphans, children, die_with_parent, guarding, kill_group
from .progress import Say
from .signals import SignalQueue, signal_name

__all__ = ["Process", "run_process"]

#: How often the group is looked at, in seconds, while it ends: processes that are not
#: the agent's children send it no signal.
_LOOK_AGAIN: Final = 0.1
#: How long killed processes may take to go, in seconds, before the agent ends anyway.
_BURIAL: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """What to start; ``argv[0]`` is the program's path, ``stdin`` a file to read from."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    stdin: Path


def run_process(process: Process, grace: float, say: Say) -> int:
    """Run the process to its end and return its exit code, or 128 + N after signal N.

    SIGTERM is passed on as every signal is, and gives the harness and all of its
    process group ``grace`` seconds before they are killed. Must be called in the main
    thread.

    Raises:
        HarnessNotFoundError, HarnessNotExecutableError: it could not be started.
    """
    signals = SignalQueue()
    try:
        adopt_orphans()
        with guarding() as enlist:
            known = children()
            harness = _start(process, enlist)
            try:
                return _Watch(harness, signals, grace, say).until_end()
            finally:
                kill_group(harness.pid, signal.SIGKILL)
                _bury_the_rest(known, signals)
    finally:
        signals.close()


def _start(process: Process, enlist: Callable[[], None]) -> subprocess.Popen[bytes]:
    program = process.argv[0]
    die_with_agent = die_with_parent()

    def before_exec() -> None:
        die_with_agent()
        enlist()

    try:
        with process.stdin.open("rb") as stdin:
            return subprocess.Popen(
                process.argv,
                env=process.environment,
                stdin=stdin,
                # A session of its own: its group is the harness and all that it starts, and
                # there is no terminal on which to ask questions.
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509 - this process has one thread
            )
    except FileNotFoundError as error:
        raise HarnessNotFoundError(f"{program} was not found, or its interpreter was not") from error
    except OSError as error:
        why = os.strerror(error.errno or 0)
        if error.errno == errno.E2BIG:
            why = "the arguments and the environment are too large together"
        raise HarnessNotExecutableError(f"{program} cannot be started: {why}") from error


class _Watch:
    """From the harness's start to its end, and after a SIGTERM to the end of its group."""

    def __init__(
        self, harness: subprocess.Popen[bytes], signals: SignalQueue, grace: float, say: Say
    ) -> None:
        self._harness = harness
        self._signals = signals
        self._grace = grace
        self._say = say
        self._deadline: float | None = None
        self._stopping = False

    def until_end(self) -> int:
        while not self._ended():
            for signum in self._signals.receive(self._timeout()):
                if signum != signal.SIGCHLD:
                    self._pass_on(signum)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._say(f"still running {self._grace:g} s after SIGTERM: killed")
                self._deadline = None
                kill_group(self._harness.pid, signal.SIGKILL)
        code = self._harness.returncode
        if code >= 0:
            return code
        self._say(f"the harness was ended by {signal_name(-code)}")
        return ExitCode.SIGNAL_BASE - code

    def _ended(self) -> bool:
        _reap(self._harness)
        if self._harness.returncode is None:
            return False
        # What a SIGTERM interrupts gets its time to tidy up, though the process that
        # started it has ended already, as a shell does.
        return self._deadline is None or not kill_group(self._harness.pid, 0)

    def _timeout(self) -> float | None:
        if self._deadline is None:
            return None
        left = max(0.0, self._deadline - time.monotonic())
        return left if self._harness.returncode is None else min(left, _LOOK_AGAIN)

    def _pass_on(self, signum: int) -> None:
        kill_group(self._harness.pid, signum)
        if signum == signal.SIGTERM and not self._stopping:
            self._stopping = True
            self._deadline = time.monotonic() + self._grace
            self._say(f"SIGTERM passed on; the harness has {self._grace:g} s to end")


def _reap(harness: subprocess.Popen[bytes]) -> None:
    """Take every child that has ended: the harness, and orphans that came to the agent."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid == harness.pid:
                harness.returncode = os.waitstatus_to_exitcode(status)


def _bury_the_rest(known: frozenset[int], signals: SignalQueue) -> None:
    """Kill and reap what the harness left behind outside its group: see ``adopt_orphans``.

    Each killed process may hand the agent further children, hence the loop. ``known``
    are children that the agent had before: not the harness's.
    """
    end = time.monotonic() + _BURIAL
    while (left := children() - known) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        signals.receive(_LOOK_AGAIN)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
