"""The harness's process: start it, forward signals, reap it, and leave no process behind.

The harness inherits the agent's stdout and stderr. The agent does not read its output, so output is never
buffered or delayed, a line has no length limit, and a terminal stays a terminal.
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

from .errors import AgentExitCode, HarnessNotExecutableError, HarnessNotFoundError
from .log import Log
from .process_tree import become_subreaper, children, die_with_parent, group_guard, kill_group
from .signals import SignalQueue, signal_name

__all__ = ["HarnessProcess", "run_process"]

#: Seconds between looks at a process group that is ending: processes that are not the agent's children
#: send it no SIGCHLD.
_POLL_INTERVAL: Final = 0.1
#: Seconds that killed processes may take to end before the agent exits without them.
_REAP_TIMEOUT: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class HarnessProcess:
    """What to start; ``argv[0]`` is the program's path, ``stdin`` a file to read from."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    stdin: Path


def run_process(process: HarnessProcess, grace: float, log: Log) -> int:
    """Run the process to its end and return its exit code, or 128 + N after signal N.

    Signals are forwarded to the harness's process group. SIGTERM gives the group ``grace`` seconds before
    it is killed. Must be called in the main thread.

    Raises:
        HarnessNotFoundError, HarnessNotExecutableError: it could not be started.
    """
    signals = SignalQueue()
    try:
        become_subreaper()
        with group_guard() as register_group:
            earlier = children()
            harness = _start(process, register_group)
            try:
                code = _wait(harness, signals, grace, log)
            finally:
                kill_group(harness.pid, signal.SIGKILL)
                _kill_descendants(earlier, signals)
    finally:
        signals.close()
    if code >= 0:
        return code
    log(f"the harness was ended by {signal_name(-code)}")
    return AgentExitCode.SIGNAL_BASE - code


def _start(process: HarnessProcess, register_group: Callable[[], object]) -> subprocess.Popen[bytes]:
    program = process.argv[0]
    die_with_agent = die_with_parent()

    def before_exec() -> None:
        die_with_agent()
        register_group()

    try:
        with process.stdin.open("rb") as stdin:
            return subprocess.Popen(
                process.argv,
                env=process.environment,
                stdin=stdin,
                # A session of its own: its process group is the harness and what it starts, and
                # it has no terminal to ask questions on.
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


def _wait(harness: subprocess.Popen[bytes], signals: SignalQueue, grace: float, log: Log) -> int:
    """Wait for the harness to end, and after a SIGTERM for its whole process group; -N after signal N."""
    deadline: float | None = None  # of the SIGKILL that follows a SIGTERM
    terminating = False
    while True:
        harness.returncode = _reap_children().get(harness.pid, harness.returncode)
        ended = harness.returncode is not None
        # After a SIGTERM the other processes of the group get their time too: a shell ends before them.
        if ended and (deadline is None or not kill_group(harness.pid, 0)):
            return int(harness.returncode)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if timeout is not None and ended:
            timeout = min(timeout, _POLL_INTERVAL)
        for signum in signals.receive(timeout):
            if signum == signal.SIGCHLD:
                continue
            kill_group(harness.pid, signum)
            if signum == signal.SIGTERM and not terminating:
                terminating = True
                deadline = time.monotonic() + grace
                log(f"SIGTERM passed on; the harness has {grace:g} s to end")
        if deadline is not None and time.monotonic() >= deadline:
            log(f"still running {grace:g} s after SIGTERM: killed")
            deadline = None
            kill_group(harness.pid, signal.SIGKILL)


def _reap_children() -> dict[int, int]:
    """Reap every child that has ended, orphans included; return their exit codes by process ID."""
    codes = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return codes


def _kill_descendants(earlier: frozenset[int], signals: SignalQueue) -> None:
    """Kill and reap what the harness started outside its process group: see ``become_subreaper``.

    A killed process may pass further children to the agent, hence the loop. ``earlier`` are the children
    that the agent had before it started the harness.
    """
    deadline = time.monotonic() + _REAP_TIMEOUT
    while (left := children() - earlier) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        signals.receive(_POLL_INTERVAL)
        _reap_children()
