"""The folder outside the repository that keeps what is costly to make, and its lock."""

import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_root", "locked", "progress"]


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ``OZ_TEST_CACHE``, or the project's folder under the user's cache (XDG base directories)."""
    if own := environ.get("OZ_TEST_CACHE"):
        return Path(own).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "oz-agent-worker"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the one lock of ``folder`` among all processes; the kernel frees it if the holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that is filling {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def progress(line: str) -> None:
    """Tell the person who waits, on stderr, because stdout may be a program's input."""
    print(line, file=sys.stderr, flush=True)
