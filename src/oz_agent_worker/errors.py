"""The error tree and the exit codes of every program in this package.

An error that reaches the user says what failed, where, and what to do. ``str(error)`` is that
text, ready to print after ``error: ``.
"""

from enum import IntEnum

__all__ = [
    "AuthRefusedError",
    "BackendError",
    "ConfigError",
    "ExitCode",
    "OzError",
    "PreflightError",
    "UsageError",
]


class ExitCode(IntEnum):
    """What a program's exit status means."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PREFLIGHT = 3
    AUTH = 4


class OzError(Exception):
    """Root of the errors that this package raises on purpose."""

    exit_code: ExitCode = ExitCode.FAILURE


class UsageError(OzError):
    """The command line is not valid."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """The configuration is not valid; the text names every problem."""


class PreflightError(OzError):
    """The backend cannot run tasks; the text says why and what to change."""

    exit_code = ExitCode.PREFLIGHT


class AuthRefusedError(OzError):
    """The control plane refused the API key (HTTP 401 or 403)."""

    exit_code = ExitCode.AUTH


class BackendError(OzError):
    """A backend could not do what was asked of it for reasons outside the task."""
