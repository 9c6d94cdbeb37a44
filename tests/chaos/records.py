"""The ledger of what ran, a file to which whoever plays the agent appends a line of JSON an event."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

__all__ = ["Record", "Recorder", "read_records"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``event`` is ``start`` or ``end`` of a task's container.

    ``where`` is its Pod's UID or its process, ``owner`` the UID of the Pod's Job.
    """

    t: float
    event: str
    task_id: str
    execution_id: str
    where: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Appends to a ledger; each line is one write."""

    path: Path

    def write(self, event: str, task_id: str, execution_id: str, where: str, owner: str = "") -> None:
        """Append one event, with the time."""
        names = {"task_id": task_id, "execution_id": execution_id, "where": where, "owner": owner}
        record = Record(t=time.time(), event=event, **names)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(record) + b"\n")
        finally:
            os.close(descriptor)


def read_records(lines: Iterable[bytes]) -> list[Record]:
    """Decode a ledger's lines."""
    return [msgspec.json.decode(line, type=Record) for line in lines]
