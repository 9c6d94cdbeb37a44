"""The executions of one worker ID under one workspace root: begun, found, and taken by one process each."""

import asyncio
import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, failed
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import (
    AdoptableExecution,
    Execution,
    LaunchError,
    OutputSink,
    OwnedByAnotherWorkerError,
)
from oz_agent_worker.worker.backends.journal import (
    HeldError,
    Journal,
    JournalError,
    JournalRecord,
    NotPrivateError,
    UnreadableError,
)

from .instance_slots import InstanceSlots
from .record import DirectState, RecordLock, first_state
from .workspace import Workspace, WorkspaceError, WorkspaceRoot

__all__ = ["RecordStore", "prepare_journal"]

logger = logging.getLogger(__name__)

#: Errors that the task's own ID or folder causes. Others are the host's, and another worker, or
#: this one later, may be able to run the task.
_ERRORS_OF_THE_TASK: Final = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


class RecordStore:
    """Gives this process the executions that it begins, and those that dead workers left.

    The records of a dead worker are taken together with its slot; those with the slot of a live
    worker are left alone. ``taking`` is held while records are taken: until they are announced
    they are locked by this process, and a launch would mistake them for another worker's.
    """

    def __init__(self, root: WorkspaceRoot, worker_id: str) -> None:
        self.taking = asyncio.Lock()
        self._root = root
        self._journal = Journal(root.journal(worker_id), DirectState)
        self._slots = InstanceSlots(self._journal.folder)
        self._not_followed: dict[ExecutionKey, RecordLock] = {}

    def open(self) -> str:
        """Prepare the journal and take a slot in it; return this worker's instance name.

        The name has no host name and no path: these may be the same on two machines.

        Raises:
            PreflightError: the journal cannot hold records, or has no name or no free slot.
        """
        prepare_journal(self._journal)
        try:
            identity = self._journal.identity()
            self._slots.open()
        except OSError as error:
            raise _unusable(self._journal, error) from error
        except JournalError as error:
            raise PreflightError(
                f"backend.direct.workspace_root: {error}. Remove the file: the journal gets another name"
            ) from error
        return f"host/{identity}/{self._slots.own}"

    def close(self) -> None:
        """Leave the executions that nobody followed in place, and give back every slot."""
        for lock in self._not_followed.values():
            lock.let_go()
        self._not_followed.clear()
        self._slots.close()

    # ------------------------------------------------------------------ executions that begin

    def begin(self, key: ExecutionKey, harness: str | None) -> tuple[RecordLock, Workspace]:
        """Write the record of an execution and make its workspace; ``harness`` needs a home in it.

        The record is written first, so that whatever a kill leaves has a record.

        Raises:
            LaunchError: neither record nor workspace is there.
        """
        try:
            return self._begin(key, harness)
        except HeldError as error:
            raise _owned_by_another(error) from error
        except WorkspaceError as error:
            what = f"Task cannot have a workspace: {error}"
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            what = f"Task cannot have a workspace: {where}{error.strerror}"
            if error.errno not in _ERRORS_OF_THE_TASK and not isinstance(error, NotPrivateError):
                raise LaunchError(what) from error
        raise LaunchError(what, failed(FailureReason.WORKSPACE_SETUP, what, phase=FailurePhase.ASSIGNMENT))

    def _begin(self, key: ExecutionKey, harness: str | None) -> tuple[RecordLock, Workspace]:
        record: JournalRecord[DirectState] | None = None

        def write_name(name: str) -> None:
            nonlocal record
            if record is None:
                record = self._journal.create(key, first_state(name, harness, self._slots.own))
            else:
                record.save(msgspec.structs.replace(record.state, workspace=name))

        try:
            workspace = self._root.open(key, harness, chosen=write_name)
        except BaseException:
            if record is not None:
                record.remove()
            raise
        assert record is not None, "a workspace has a name"
        self._slots.hold(self._slots.own)
        return RecordLock(record, workspace, self._slots), workspace

    # ------------------------------------------------------------- executions of dead workers

    async def scan(
        self,
        found: Callable[[AdoptableExecution], None],
        follow: Callable[[ExecutionKey, OutputSink], Execution],
    ) -> None:
        """Take every execution that a dead worker left, and announce each to ``found``.

        ``follow`` makes an execution of one when ``found`` asks for it.
        """
        async with self.taking:
            for lock in await asyncio.to_thread(self._take_free):
                record = lock.record
                logger.info("Task %s was left by a worker that died", record.key)
                self._not_followed[record.key] = lock
                found(
                    AdoptableExecution(
                        record.key, partial(follow, record.key), ended=record.outcome is not None
                    )
                )

    def _take_free(self) -> list[RecordLock]:
        taken = []
        for record in self._journal.take_free():
            try:
                taken.append(self._lock(record))
            except HeldError:
                continue
            except OSError as error:
                logger.warning("Cannot adopt task %s yet: %s", record.key, error.strerror)
        return taken

    def take(self, key: ExecutionKey) -> RecordLock | None:
        """Take an execution that a dead worker left; ``None`` if there is no record of it.

        Raises:
            LaunchError: the execution has a record that this process cannot take. It must not be
                started again, here or elsewhere.
        """
        if lock := self._not_followed.pop(key, None):
            return lock
        try:
            record = self._journal.take(key)
            return self._lock(record) if record is not None else None
        except HeldError as error:
            raise _owned_by_another(error) from error
        except UnreadableError as error:
            raise LaunchError(str(error), failed(FailureReason.WORKER_LOST, str(error))) from error
        except OSError as error:
            what = f"it was begun by a worker that died: {error.strerror}"
            raise OwnedByAnotherWorkerError(what) from error

    def _lock(self, record: JournalRecord[DirectState]) -> RecordLock:
        """Take the slot and the workspace of a record.

        Raises:
            HeldError: another live worker has the slot.
            OSError: the slot cannot be taken now.
        """
        slot = record.state.slot
        try:
            if not self._slots.hold(slot):
                raise HeldError(f"its slot-{slot} is locked")
        except (HeldError, OSError):
            record.let_go()
            raise
        return RecordLock(record, self._workspace_of(record), self._slots)

    def _workspace_of(self, record: JournalRecord[DirectState]) -> Workspace | None:
        try:
            return self._root.reopen(record.state.workspace)
        except (WorkspaceError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            logger.warning("Task %s: cannot open its workspace, which stays: %s", record.key, why)
            return None


def prepare_journal(journal: Journal[DirectState]) -> None:
    """Create the journal's folder and show that it can hold records.

    Raises:
        PreflightError: it cannot.
    """
    try:
        journal.prepare()
    except OSError as error:
        raise _unusable(journal, error) from error


def _unusable(journal: Journal[DirectState], error: OSError) -> PreflightError:
    return PreflightError(
        f"backend.direct.workspace_root: {error.filename or journal.folder} cannot hold the "
        f"records of tasks: {error.strerror}. Remove what is in its place, let the worker's user write "
        "there, or set workspace_root to a folder of a local file system"
    )


def _owned_by_another(error: HeldError) -> OwnedByAnotherWorkerError:
    return OwnedByAnotherWorkerError(f"it runs on this host under another worker: {error}")
