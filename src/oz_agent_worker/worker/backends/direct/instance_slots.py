"""InstanceSlots: by which live workers that share a journal are told apart, and a restarted one is known.

::

    <journal>/slot-0, slot-1, …     empty files; who has the lock of one (flock) has the slot

A worker has the lowest slot that is free, for as long as its process lives. What it begins
names its slot in the record, and a record is taken by whoever has that slot, and by nobody
else. So the control plane may send an unanswered assignment again to the same slot: what was
begun under it is in the hands of the process that has it, or was delivered.

A worker that finds the records of a dead one therefore takes its slot with them, and gives
it back when the last of them is removed. One that starts meanwhile gets another.
"""

import itertools
import os
import threading
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.backends.journal import lock_file

__all__ = ["InstanceSlots"]

_NOT_OPEN: Final = -1


class InstanceSlots:
    """The slots of the journal in ``folder`` that this process has. Its methods block, in any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._locks: dict[int, int] = {}
        self._uses: dict[int, int] = {}
        self._own = _NOT_OPEN

    @property
    def own(self) -> int:
        """The slot under which this process begins executions. It has one once ``open`` has returned."""
        return self._own

    def open(self) -> None:
        """Take the lowest slot that is free, until ``close``.

        Raises:
            OSError: there is none to be had.
        """
        with self._guard:
            self._own = next(slot for slot in itertools.count() if self._lock(slot))
            self._uses[self._own] = 1

    def hold(self, slot: int | None) -> bool:
        """Have a slot until ``let_go``, counted; False where another live process has it.

        ``None`` stands for a slot that nobody can have, and is always had.

        Raises:
            OSError: it cannot be had now.
        """
        if slot is None:
            return True
        with self._guard:
            if slot not in self._locks and not self._lock(slot):
                return False
            self._uses[slot] = self._uses.get(slot, 0) + 1
            return True

    def let_go(self, slot: int | None) -> None:
        """Undo one ``hold``."""
        with self._guard:
            if slot is None or slot not in self._uses:
                return
            self._uses[slot] -= 1
            if not self._uses[slot]:
                del self._uses[slot]
                os.close(self._locks.pop(slot))

    def close(self) -> None:
        """Give back every slot."""
        with self._guard:
            for lock in self._locks.values():
                os.close(lock)
            self._locks.clear()
            self._uses.clear()

    def _lock(self, slot: int) -> bool:
        lock = lock_file(self._folder / f"slot-{slot}", create=True)
        if lock is not None:
            self._locks[slot] = lock
        return lock is not None
