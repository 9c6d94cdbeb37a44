"""Finding the harness's program: coding CLI sidecars first, then PATH."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .errors import HarnessNotExecutableError, HarnessNotFoundError
from .harnesses.base import Harness

__all__ = ["find_program", "sidecar_directories", "with_sidecars"]

_IN_SIDECAR: Final = ("", "bin", "usr/local/bin", "usr/bin", "node_modules/.bin")
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def sidecar_directories(harness: str) -> tuple[str, ...]:
    """Return the directories that a coding CLI sidecar of this harness may bring programs in."""
    mount = Path(f"/mnt/{harness}-cli-sidecar")
    return tuple(str(mount / directory) for directory in _IN_SIDECAR)


def with_sidecars(environment: Mapping[str, str], harness: str) -> str:
    """Return PATH for the harness: the sidecar's directories come last.

    A sidecar brings what its CLI needs (a runtime, say), and must not replace the
    task image's own tools with its own.
    """
    path = environment.get("PATH") or _DEFAULT_PATH
    return os.pathsep.join([path, *(d for d in sidecar_directories(harness) if Path(d).is_dir())])


def find_program(program: str, harness: Harness, environment: Mapping[str, str]) -> str:
    """Return the path of the program.

    The sidecar is searched before PATH: it was mounted for this very program, and its
    version is the operator's choice.

    Raises:
        HarnessNotFoundError: it is nowhere; the text tells how to get it.
        HarnessNotExecutableError: what is there is no executable file.
    """
    path = environment.get("PATH") or _DEFAULT_PATH
    candidates = _candidates(program, [*sidecar_directories(harness.name), *path.split(os.pathsep)])
    there = [candidate for candidate in candidates if Path(candidate).is_file()]
    for candidate in there:
        if os.access(candidate, os.X_OK):
            return candidate
    if there:
        raise HarnessNotExecutableError(f"{there[0]} is not executable (harness {harness.name})")
    where = "" if "/" in program else " on PATH"
    raise HarnessNotFoundError(f"{program!r} was not found{where} (harness {harness.name}): {harness.get}")


def _candidates(program: str, directories: Sequence[str]) -> list[str]:
    if "/" in program:
        return [program]
    # An empty entry of PATH means the working directory (POSIX XBD 8.3): whoever can
    # write there must not choose the program.
    return [str(Path(directory) / program) for directory in directories if directory]
