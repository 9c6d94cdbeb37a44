"""Instance slots: they distinguish live workers that share a journal, and identify a restarted one.

::

    <journal>/slot-0, slot-1, …     empty files; the process with the lock (flock) has the slot

A worker has the lowest free slot for as long as its process lives. The record of an execution
names the slot of the worker that began it, and only the process with that slot may take the
record. So the control plane may send an unanswered assignment again to the same slot: what was
begun under that slot is held by the process that has it, or was delivered.

A worker that finds the records of a dead worker therefore takes that worker's slot with them, and
gives it back when the last of the records is removed. A worker that starts meanwhile gets another.
"""

import errno
import logging
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.backends.journal import lock_file

__all__ = ["InstanceSlots"]

logger = logging.getLogger(__name__)

_NOT_OPEN: Final = -1
#: No host has as many live workers over one journal.
_MAX_SLOTS: Final = 10_000
#: Errors that are those of one file, not of the folder or the process.
_SPOILED: Final = frozenset({errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EPERM})


class InstanceSlots:
    """The slots of the journal in ``folder`` that this process has. Its methods block, in any thread.

    ``own`` is the slot under which this process begins executions, once ``open`` has returned.
    """

    def __init__(self, folder: Path) -> None:
        self.own = _NOT_OPEN
        self._folder = folder
        self._guard = threading.Lock()
        self._locks: dict[int, int] = {}
        self._uses: Counter[int] = Counter()

    def open(self) -> None:
        """Take the lowest slot that is free, until ``close``. A slot whose file is spoiled is nobody's.

        Raises:
            OSError: no slot can be taken.
        """
        with self._guard:
            self.own = next(slot for slot in range(_MAX_SLOTS) if self._take_sound(slot))

    def _take_sound(self, slot: int) -> bool:
        try:
            return self._take(slot)
        except OSError as error:
            if error.errno not in _SPOILED or slot == _MAX_SLOTS - 1:
                raise
            path = self._folder / f"slot-{slot}"
            logger.warning("%s cannot be locked, the next slot is used: %s", path, error.strerror)
            return False

    def hold(self, slot: int | None) -> bool:
        """Take a slot, counted, until ``let_go``; False while another live process has it.

        ``None`` is the slot of a record that names none: every process may take that record.

        Raises:
            OSError: the slot cannot be taken now.
        """
        if slot is None:
            return True
        with self._guard:
            return self._take(slot)

    def let_go(self, slot: int | None) -> None:
        """Undo one ``hold``."""
        with self._guard:
            if slot is None or slot not in self._locks:
                return
            self._uses[slot] -= 1
            if not self._uses[slot]:
                os.close(self._locks.pop(slot))

    def close(self) -> None:
        """Give back every slot."""
        with self._guard:
            for lock in self._locks.values():
                os.close(lock)
            self._locks.clear()
            self._uses.clear()

    def _take(self, slot: int) -> bool:
        if slot not in self._locks:
            lock = lock_file(self._folder / f"slot-{slot}", create=True)
            if lock is None:
                return False
            self._locks[slot] = lock
        self._uses[slot] += 1
        return True
