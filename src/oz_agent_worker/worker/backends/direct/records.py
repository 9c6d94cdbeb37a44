"""The executions of one worker ID under one workspace root, as records: begun, found, and held.

``RecordStore`` gives an execution to one process at a time; a ``RecordLock`` is what that process
holds of it; ``DirectState`` is what the journal keeps.
"""

import asyncio
import errno
import logging
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, Outcome, failed
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

from .environment import MARK
from .instance_slots import InstanceSlots
from .processes import ProcessSession, ProcessSet, boot_id
from .workspace import Workspace, WorkspaceError, WorkspaceRoot, is_safe_component

__all__ = [
    "DirectState",
    "RecordLock",
    "RecordStore",
    "conclude",
    "first_state",
    "lost_processes",
    "prepare_journal",
]

logger = logging.getLogger(__name__)

_MARK: Final = re.compile(r"[0-9a-f]{32}")
#: Errors that the task's own ID or folder causes. Others are the host's, and another worker, or
#: this one later, may be able to run the task.
_ERRORS_OF_THE_TASK: Final = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


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

        The record goes last, so that everything that a kill in between leaves has a record.

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
        self._refused: set[ExecutionKey] = set()
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
        """Leave the executions that were not followed in place, and give back every slot."""
        for lock in self._not_followed.values():
            lock.let_go()
        self._not_followed.clear()
        self._slots.close()

    # ------------------------------------------------------------------ executions that begin

    def begin(self, key: ExecutionKey, harness: str | None) -> tuple[RecordLock, Workspace]:
        """Write the record of an execution and make its workspace; ``harness`` needs a home in it.

        The record is written first, so that everything that a kill leaves has a record.

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
                level = logging.DEBUG if record.key in self._refused else logging.WARNING
                self._refused.add(record.key)  # a scan finds it again every few seconds
                logger.log(level, "Cannot adopt task %s yet: %s", record.key, error.strerror)
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
