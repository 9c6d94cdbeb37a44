"""What dead workers left in a journal: found, held, and followed by whoever is told."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import AdoptableExecution, Execution, OutputSink
from oz_agent_worker.worker.backends.journal import HeldError, Journal, JournalRecord

from .instance_slots import InstanceSlots
from .record import DirectState, RecordLock
from .workspace import Workspace, WorkspaceError, WorkspaceRoot

__all__ = ["RecoveryScan"]

logger = logging.getLogger(__name__)


class RecoveryScan:
    """The executions that this process took from a journal and follows, or may yet.

    Those of a dead worker are taken with its slot; what has that of a live one is left to it.
    ``quiet`` is held while they are taken: between that and their telling, an execution is
    this process's and seems to be another's.
    """

    def __init__(self, journal: Journal[DirectState], root: WorkspaceRoot, slots: InstanceSlots) -> None:
        self._journal = journal
        self._root = root
        self._slots = slots
        self._held: dict[ExecutionKey, RecordLock] = {}
        self.quiet = asyncio.Lock()

    async def look(
        self,
        found: Callable[[AdoptableExecution], None],
        follow: Callable[[ExecutionKey, OutputSink], Execution],
    ) -> None:
        """Take what is free, and tell ``found`` of each; ``follow`` is what it can then do."""
        async with self.quiet:
            for holding in await asyncio.to_thread(self._take_free):
                key = holding.entry.key
                logger.info("Task %s was left by a worker that died", key)
                self._held[key] = holding
                found(AdoptableExecution(key, partial(follow, key), ended=holding.entry.outcome is not None))

    def _take_free(self) -> list[RecordLock]:
        held = []
        for entry in self._journal.take_free():
            try:
                held.append(self._hold(entry))
            except HeldError:
                continue
            except OSError as error:
                logger.warning("Task %s cannot be taken over yet: %s", entry.key, error.strerror)
        return held

    def take(self, key: ExecutionKey) -> RecordLock | None:
        """Give up an execution to whoever follows it; ``None`` where nothing of it was left.

        Raises:
            HeldError: another live worker has it.
            UnreadableError: its record cannot be read.
            OSError: the slot of its worker cannot be had now.
        """
        if holding := self._held.pop(key, None):
            return holding
        entry = self._journal.take(key)
        return self._hold(entry) if entry is not None else None

    def let_go(self) -> None:
        """Leave what nobody followed in its place."""
        for holding in self._held.values():
            holding.let_go()
        self._held.clear()

    def _hold(self, entry: JournalRecord[DirectState]) -> RecordLock:
        slot = entry.state.slot
        try:
            if not self._slots.hold(slot):
                raise HeldError(f"its slot-{slot} is locked")
        except (HeldError, OSError):
            entry.let_go()
            raise
        return RecordLock(entry, self._reopen(entry), self._slots)

    def _reopen(self, entry: JournalRecord[DirectState]) -> Workspace | None:
        try:
            return self._root.reopen(entry.state.workspace)
        except WorkspaceError as error:
            why = str(error)
        except OSError as error:
            why = error.strerror or str(error)
        logger.warning("Task %s: its workspace cannot be had, and stays: %s", entry.key, why)
        return None
