"""The agent's errors and every exit code that is its own.

Below 125 a code is the harness's own, but for ``USAGE``. From 125 on the codes are
those of ``env``, ``timeout`` and the shell (POSIX XCU 2.8.2), so that whoever reads
them knows them already.
"""

from enum import IntEnum

__all__ = [
    "AgentError",
    "ExitCode",
    "FetchError",
    "HarnessNotExecutableError",
    "HarnessNotFoundError",
    "Interrupted",
    "UsageError",
]


class ExitCode(IntEnum):
    """Exit codes of the agent itself; every other one is the harness's."""

    OK = 0
    USAGE = 2
    NOT_FETCHED = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    #: A harness that signal N ended gives ``SIGNAL_BASE + N``.
    SIGNAL_BASE = 128


class AgentError(Exception):
    """Root of the errors that end the agent; ``str(error)`` is one line for the user."""

    exit_code: ExitCode = ExitCode.NOT_EXECUTABLE


class UsageError(AgentError):
    """The command line, an ``OZ_AGENT_*`` variable or the chosen harness makes no sense."""

    exit_code = ExitCode.USAGE


class FetchError(AgentError):
    """The run could not be had from the control plane, or is of no use."""

    exit_code = ExitCode.NOT_FETCHED


class HarnessNotExecutableError(AgentError):
    """The harness's program is there and cannot be started."""

    exit_code = ExitCode.NOT_EXECUTABLE


class HarnessNotFoundError(AgentError):
    """The harness's program is not on the search path."""

    exit_code = ExitCode.NOT_FOUND


class Interrupted(BaseException):
    """A signal asked the agent to end before its harness stood.

    As KeyboardInterrupt it is a demand, not an error: nothing that catches errors stops it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
