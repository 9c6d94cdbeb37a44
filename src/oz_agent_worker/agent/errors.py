"""The agent's errors and its own exit codes.

Codes below 125 are the harness's, except ``USAGE``. From 125 on they have the meaning that ``env``,
``timeout`` and the shell give them (POSIX XCU 2.8.2).
"""

from enum import IntEnum

__all__ = [
    "AgentError",
    "AgentExitCode",
    "AgentUsageError",
    "FetchError",
    "HarnessNotExecutableError",
    "HarnessNotFoundError",
    "Interrupted",
]


class AgentExitCode(IntEnum):
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

    exit_code: AgentExitCode = AgentExitCode.NOT_EXECUTABLE


class AgentUsageError(AgentError):
    """The command line, an ``OZ_AGENT_*`` variable or the choice of harness is invalid."""

    exit_code = AgentExitCode.USAGE


class FetchError(AgentError):
    """The run cannot be fetched from the control plane, or its description is invalid."""

    exit_code = AgentExitCode.NOT_FETCHED


class HarnessNotExecutableError(AgentError):
    """The harness's program exists and cannot be started."""

    exit_code = AgentExitCode.NOT_EXECUTABLE


class HarnessNotFoundError(AgentError):
    """The harness's program is not on the search path."""

    exit_code = AgentExitCode.NOT_FOUND


class Interrupted(BaseException):
    """A signal asked the agent to end before it started its harness.

    A BaseException, as KeyboardInterrupt is: a handler for errors does not catch it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
