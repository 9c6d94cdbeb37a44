"""What the journal keeps of an execution on this host, and what the execution holds."""

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

__all__ = ["DirectState", "RecordLock", "conclude", "first_state", "lost_kin"]

logger = logging.getLogger(__name__)

_MARK: Final = re.compile(r"[0-9a-f]{32}")


class DirectState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By what an execution is found again: its folder and its processes.

    ``workspace`` is the folder's name under the workspace root. ``mark`` is the value that
    every process of the execution has in its environment. ``sessions`` are those of the
    commands that were started; they mean something within one ``boot`` of the system. ``slot``
    is that of the worker that began it (``slots``); where it is ``None``, anybody may have it.
    """

    workspace: str
    harness: str | None
    mark: str
    boot: str
    sessions: tuple[ProcessSession, ...] = ()
    slot: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could mean a stranger's folder or processes.

        Raises:
            ValueError: it does.
        """
        if not is_safe_component(self.workspace):
            raise ValueError("workspace names no folder")
        if _MARK.fullmatch(self.mark) is None:
            raise ValueError("mark is none")
        if self.slot is not None and self.slot < 0:
            raise ValueError("slot is none")


def first_state(workspace: str, harness: str | None, slot: int | None = None) -> DirectState:
    """The state of an execution of which nothing runs, with a mark of its own."""
    mark = secrets.token_hex(16)
    return DirectState(workspace=workspace, harness=harness, mark=mark, boot=boot_id(), slot=slot)


def lost_kin(state: DirectState) -> ProcessSet:
    """The processes of an execution that nobody has watched since its worker died."""
    same_boot = state.boot != "" and state.boot == boot_id()
    sessions = frozenset(state.sessions) if same_boot else frozenset()
    return ProcessSet(os.fsencode(f"{MARK}={state.mark}"), sessions, orphans=False)


@dataclass(frozen=True, slots=True)
class RecordLock:
    """An execution's record and workspace; ``None`` where the workspace is gone or another's.

    It counts as a use of the record's slot, among the ``slots`` of this process.
    """

    entry: JournalRecord[DirectState]
    workspace: Workspace | None
    slots: InstanceSlots

    def remove(self, *, workspace: bool) -> None:
        """Let go of both and remove the record, and the ``workspace`` where it says so. Blocks.

        The record goes last: what a kill in between leaves has one.

        Raises:
            OSError: something cannot be removed. A record that cannot stays held, with its slot.
        """
        try:
            if self.workspace is not None:
                if workspace:
                    self.workspace.remove()
                else:
                    self.workspace.keep()
        finally:
            self.entry.remove()
            self.slots.let_go(self.entry.state.slot)

    def let_go(self) -> None:
        """Leave both in their place, to whoever takes the execution over."""
        if self.workspace is not None:
            self.workspace.keep()
        self.entry.let_go()
        self.slots.let_go(self.entry.state.slot)


async def conclude(entry: JournalRecord[DirectState], outcome: Outcome) -> bool:
    """Write an outcome down, and return when the disk has it; whether it has."""
    try:
        await asyncio.to_thread(entry.conclude, outcome)
    except OSError as error:
        logger.error(
            "Task %s: its outcome cannot be written to the journal: %s. It is reported all the same; were "
            "the worker killed before that, the task would be reported as lost",
            entry.key,
            error.strerror,
        )
        return False
    return True
