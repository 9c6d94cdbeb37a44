"""Finds the harness's program: in coding CLI sidecars first, then on PATH."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .errors import HarnessNotExecutableError, HarnessNotFoundError
from .harnesses.base import Harness

__all__ = ["find_program", "path_with_sidecars", "sidecar_directories"]

_IN_SIDECAR: Final = ("", "bin", "usr/local/bin", "usr/bin", "node_modules/.bin")
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def sidecar_directories(harness: str) -> tuple[str, ...]:
    """Return the directories that a coding CLI sidecar of this harness may bring programs in."""
    mount = Path(f"/mnt/{harness}-cli-sidecar")
    return tuple(str(mount / directory) for directory in _IN_SIDECAR)


def path_with_sidecars(environment: Mapping[str, str], harness: str) -> str:
    """Return PATH for the harness, the sidecar's directories last.

    A sidecar has what its CLI needs, such as a runtime, and must not hide the tools of the task's image.
    """
    path = environment.get("PATH") or _DEFAULT_PATH
    return os.pathsep.join([path, *(d for d in sidecar_directories(harness) if Path(d).is_dir())])


def find_program(program: str, harness: Harness, environment: Mapping[str, str]) -> str:
    """Return the path of the program.

    The sidecar comes before PATH: the operator mounted it for this program and chose its version.

    Raises:
        HarnessNotFoundError: it is not installed; the text says how to get it.
        HarnessNotExecutableError: a file of that name is not executable.
    """
    path = environment.get("PATH") or _DEFAULT_PATH
    candidates = _candidates(program, [*sidecar_directories(harness.name), *path.split(os.pathsep)])
    files = [candidate for candidate in candidates if Path(candidate).is_file()]
    for candidate in files:
        if os.access(candidate, os.X_OK):
            return candidate
    if files:
        raise HarnessNotExecutableError(f"{files[0]} is not executable (harness {harness.name})")
    where = "" if "/" in program else " on PATH"
    raise HarnessNotFoundError(
        f"{program!r} was not found{where} (harness {harness.name}): {harness.install_hint}"
    )


def _candidates(program: str, directories: Sequence[str]) -> list[str]:
    if "/" in program:
        return [program]
    # An empty entry of PATH means the working directory (POSIX XBD 8.3): whoever can
    # write to the workspace must not choose the program.
    return [str(Path(directory) / program) for directory in directories if directory]
