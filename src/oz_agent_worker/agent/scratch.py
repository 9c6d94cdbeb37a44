"""The agent's temporary directory, for the files of one harness run."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import HarnessNotExecutableError

__all__ = ["scratch_directory"]


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Create a directory that only this user can read, and remove it at the end.

    Raises:
        HarnessNotExecutableError: it cannot be created.
    """
    try:
        scratch = Path(tempfile.mkdtemp(prefix="oz-agent-"))
    except OSError as error:
        raise HarnessNotExecutableError(f"no temporary directory can be made: {error.strerror}") from error
    try:
        yield scratch
    finally:
        # TemporaryDirectory would raise, and fail the run, if another user owns a folder in it.
        shutil.rmtree(scratch, ignore_errors=True)
