"""What the journal keeps of an execution on this host, and what the process that runs it holds."""

import asyncio
import logging
import os
import re
import secrets
from dataclasses import dataclass
from typing import Final

import msgspec

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.worker.backends.journal import JournalRecord

from .environment import MARK
from .instance_slots import InstanceSlots
from .processes import ProcessSession, ProcessSet, boot_id
from .workspace import Workspace, is_safe_component

__all__ = ["DirectState", "RecordLock", "conclude", "first_state", "lost_processes"]

logger = logging.getLogger(__name__)

_MARK: Final = re.compile(r"[0-9a-f]{32}")


class DirectState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the folder and the processes of an execution are found again.

    ``workspace`` is the folder's name under the workspace root. ``mark`` is the value that
    every process of the execution has in its environment. ``sessions`` are those of the
    commands that were started; their IDs are valid within one ``boot`` of the system. ``slot``
    is that of the worker that began the execution (``instance_slots``); if it is ``None``, any
    worker may take the record.
    """

    workspace: str
    harness: str | None
    mark: str
    boot: str
    sessions: tuple[ProcessSession, ...] = ()
    slot: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could name a folder or processes that are not the task's.

        Raises:
            ValueError: a field is not one that a worker writes.
        """
        if not is_safe_component(self.workspace):
            raise ValueError("workspace names no folder")
        if _MARK.fullmatch(self.mark) is None:
            raise ValueError("mark is not 32 hexadecimal digits")
        if self.slot is not None and self.slot < 0:
            raise ValueError("slot is below 0")


def first_state(workspace: str, harness: str | None, slot: int | None = None) -> DirectState:
    """The state of an execution that has started nothing, with a mark of its own."""
    mark = secrets.token_hex(16)
    return DirectState(workspace=workspace, harness=harness, mark=mark, boot=boot_id(), slot=slot)


def lost_processes(state: DirectState) -> ProcessSet:
    """The processes of an execution that no worker has watched since its own died."""
    same_boot = state.boot != "" and state.boot == boot_id()
    sessions = frozenset(state.sessions) if same_boot else frozenset()
    return ProcessSet(os.fsencode(f"{MARK}={state.mark}"), sessions, orphans=False)


@dataclass(frozen=True, slots=True)
class RecordLock:
    """An execution's record and workspace, held by this process.

    ``workspace`` is ``None`` if the folder is gone or another execution has it. The lock counts
    as a use of the record's slot among the ``slots`` of this process.
    """

    record: JournalRecord[DirectState]
    workspace: Workspace | None
    slots: InstanceSlots

    def remove(self, *, workspace: bool) -> None:
        """Remove the record, and the workspace too if ``workspace`` is true. Blocks.

        The record goes last, so that whatever a kill in between leaves has a record.

        Raises:
            OSError: something cannot be removed. A record that cannot be removed stays held,
                with its slot.
        """
        try:
            if self.workspace is not None:
                if workspace:
                    self.workspace.remove()
                else:
                    self.workspace.keep()
        finally:
            self.record.remove()
            self.slots.let_go(self.record.state.slot)

    def let_go(self) -> None:
        """Leave record and workspace in place, for the worker that takes the execution next."""
        if self.workspace is not None:
            self.workspace.keep()
        self.record.let_go()
        self.slots.let_go(self.record.state.slot)


async def conclude(record: JournalRecord[DirectState], outcome: Outcome) -> bool:
    """Write an outcome into the journal; return whether it is on the disk."""
    try:
        await asyncio.to_thread(record.conclude, outcome)
    except OSError as error:
        logger.error(
            "Task %s: cannot write its outcome to the journal: %s. The outcome is reported all the same, but "
            "if the worker is killed before that, the task is reported as lost",
            record.key,
            error.strerror,
        )
        return False
    return True
