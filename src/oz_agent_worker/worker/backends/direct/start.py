"""The first step of an execution: its record, and then its workspace."""

import errno
import logging
from typing import Final

import msgspec

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, failed
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError
from oz_agent_worker.worker.backends.journal import HeldError, Journal, JournalRecord

from .instance_slots import InstanceSlots
from .record import DirectState, RecordLock, first_state
from .workspace import Workspace, WorkspaceError, WorkspaceRoot

__all__ = ["open_holding", "withdraw"]

logger = logging.getLogger(__name__)

#: What the task's own ID or folder brings about. Anything else is the host's trouble, and
#: another worker, or this one later, may well run the task.
_TASK_TROUBLE: Final = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


def open_holding(
    journal: Journal[DirectState],
    root: WorkspaceRoot,
    slots: InstanceSlots,
    key: ExecutionKey,
    harness: str | None,
) -> tuple[RecordLock, Workspace]:
    """Write the record of an execution and make its workspace; ``harness`` needs a home in it.

    The record names this process's own slot, and the workspace before that is made: what a
    kill leaves has a record.

    Raises:
        LaunchError: neither stands.
    """
    try:
        return _open(journal, root, slots, key, harness)
    except HeldError as error:
        raise OwnedByAnotherWorkerError(f"it runs on this host under another worker: {error}") from error
    except WorkspaceError as error:
        what = f"Task cannot have a workspace: {error}"
    except OSError as error:
        what = f"Task cannot have a workspace: {error.strerror}"
        if error.errno not in _TASK_TROUBLE:
            raise LaunchError(what) from error
    phase = FailurePhase.ASSIGNMENT
    raise LaunchError(what, failed(FailureReason.WORKSPACE_SETUP, what, phase=phase))


def _open(
    journal: Journal[DirectState],
    root: WorkspaceRoot,
    slots: InstanceSlots,
    key: ExecutionKey,
    harness: str | None,
) -> tuple[RecordLock, Workspace]:
    begun: list[JournalRecord[DirectState]] = []

    def chosen(name: str) -> None:
        if begun:
            begun[0].save(msgspec.structs.replace(begun[0].state, workspace=name))
        else:
            begun.append(journal.create(key, first_state(name, harness, slots.own)))

    try:
        workspace = root.open(key, harness, chosen=chosen)
    except BaseException:
        for entry in begun:
            entry.remove()
        raise
    slots.hold(slots.own)
    return RecordLock(begun[0], workspace, slots), workspace


def withdraw(holding: RecordLock, workspace: Workspace) -> None:
    """Undo ``open_holding``: nothing was started."""
    try:
        holding.remove(workspace=not workspace.reused)
    except OSError as error:
        logger.warning("Task %s: its workspace cannot be removed: %s", holding.entry.key, error.strerror)
