"""The file in which a setup command leaves variables for the agent (``OZ_ENVIRONMENT_FILE``)."""

import errno
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oz_agent_worker.common.secret import Secret

from .dotenv import Note, parse_dotenv

__all__ = ["EnvironmentFile", "read_environment_file"]

logger = logging.getLogger(__name__)

#: The largest environment file that is read, in bytes.
MAX_ENVIRONMENT_FILE: Final = 1024 * 1024
#: How many notes are logged for one file.
_MAX_NOTES: Final = 10


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """What the file has: the variables that are taken, and what there is to say of the others."""

    variables: Mapping[str, Secret] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def log_notes(self, task: object) -> None:
        """Log each note, and only the number of those beyond the first few."""
        where = "the setup command's environment file"
        for note in self.notes[:_MAX_NOTES]:
            logger.warning("Task %s: %s, %s", task, where, note)
        if more := len(self.notes[_MAX_NOTES:]):
            logger.warning("Task %s: %s has %d more lines like these", task, where, more)


def read_environment_file(
    path: Path, *, before: Mapping[str, str], own: Mapping[str, str], mark: str
) -> EnvironmentFile:
    """Read what a setup command exported: nothing, if it removed the file. Blocks.

    ``before`` is the environment that the command was given. The variables in ``own`` keep the task
    apart from others, and the file cannot set them. ``mark`` names the variable by whose line the
    output of ``env`` is recognised.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        # A FIFO in its place must not block the worker.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return EnvironmentFile()
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(MAX_ENVIRONMENT_FILE + 1)
    if len(data) > MAX_ENVIRONMENT_FILE:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_ENVIRONMENT_FILE} bytes")
    given = {name: _latin(value) for name, value in before.items()}
    parsed = parse_dotenv(data.decode("latin-1"), given, f"{mark}={given.get(mark)}")
    notes, variables = list(parsed.notes), {}
    for name, (line, value) in parsed.variables.items():
        # Variables are bytes to the system: what is not UTF-8 reaches the agent unchanged.
        clear = os.fsdecode(value.encode("latin-1"))
        if name not in own:
            variables[name] = Secret(clear)
        elif clear != own[name]:  # what `env` prints has them all
            notes.append(Note(line, name, "the task keeps its own, which the file cannot change: left out"))
    return EnvironmentFile(variables, tuple(sorted(notes, key=lambda note: note.line)))


def _latin(value: str) -> str:
    """The bytes of a variable as Latin-1."""
    return os.fsencode(value).decode("latin-1")
