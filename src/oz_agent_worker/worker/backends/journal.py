"""A journal on disk: what the next worker must know of an execution if this one is killed.

For backends without a cluster that keeps such a record. One file for each execution::

    <folder>/<run>-<digest>.json    a record: the execution, the backend's state, the outcome
    <folder>/.new-<random>          a record being written; the next start removes a dead writer's
    <folder>/identity               the journal's permanent name

The process that holds the lock of a record's file (flock(2), which the kernel drops when the
process dies) has the execution. So two workers over one folder never take the same execution,
and those of a dead worker are free. A record is replaced as a whole: its successor is locked
before rename(2) or link(2) makes it visible, so a record is never free in between and never
half written.

An outcome is on the disk (fsync) when ``conclude`` returns. The records before it are not:
the page cache survives a SIGKILL, and after a loss of power no process is left that the record
could name. Records that such a loss made unreadable are logged and skipped; the control plane
ends these runs when their leases expire.

A record must contain no secret. The functions block.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import msgspec

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.protocol.report import ExecutionKey

__all__ = [
    "HeldError",
    "Journal",
    "JournalError",
    "JournalRecord",
    "NotPrivateError",
    "UnreadableError",
    "is_open_file",
    "lock_file",
    "private_folder",
]

logger = logging.getLogger(__name__)

State = TypeVar("State", bound=msgspec.Struct)

_RECORD: Final = ".json"
_NEW: Final = ".new-"
#: The largest record that is read, in bytes: of a message of an outcome, and of some sessions.
_MAX_RECORD: Final = 16 * 1024 * 1024
_IDENTITY: Final = re.compile(r"[0-9a-f]{32}")


class NotPrivateError(OSError):
    """What is in a folder's place is no folder of this user."""


class JournalError(Exception):
    """The journal cannot give the execution; the text says why."""


class HeldError(JournalError):
    """Another live process has the execution."""


class UnreadableError(JournalError):
    """The record cannot be read. All that is known of the execution is that it was started."""


class _RecordFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file format. ``state`` belongs to the backend."""

    version: Literal[1] = 1
    task_id: str
    execution_id: str
    state: msgspec.Raw
    outcome: Outcome | None = None


class JournalRecord(Generic[State]):
    """An execution's record, held by this process until ``remove`` or ``let_go``."""

    def __init__(
        self, path: Path, lock: int, key: ExecutionKey, state: State, outcome: Outcome | None
    ) -> None:
        self._path = path
        self._lock: int | None = lock
        self.key = key
        self.state = state
        self.outcome = outcome

    def save(self, state: State) -> None:
        """Replace the backend's state.

        Raises:
            OSError: it was not written; the record is unchanged.
        """
        self._replace(state, self.outcome, durable=False)

    def conclude(self, outcome: Outcome) -> None:
        """Write how the execution ended, and return when it is on the disk.

        Raises:
            OSError: it may not be on the disk; after a crash the record may have no outcome.
        """
        self._replace(self.state, outcome, durable=True)

    def _replace(self, state: State, outcome: Outcome | None, *, durable: bool) -> None:
        written, lock = _write(self._path.parent, _encode(self.key, state, outcome), durable=durable)
        try:
            written.rename(self._path)
        except BaseException:
            _discard(written, lock)
            raise
        self.let_go()
        self._lock, self.state, self.outcome = lock, state, outcome
        if durable:
            _sync_folder(self._path.parent)

    def remove(self) -> None:
        """Delete the record. Harmless if done before.

        Raises:
            OSError: the record stays, locked as long as this process lives: unlocked, it would be
                taken for a dead worker's, again and again.
        """
        if self._lock is not None:
            self._path.unlink(missing_ok=True)
            self.let_go()

    def let_go(self) -> None:
        """Unlock the record and leave it to the next worker. Harmless if done before."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Journal(Generic[State]):
    """The records in ``folder``. ``state`` is the type of the backend's part of them."""

    def __init__(self, folder: Path, state: type[State]) -> None:
        self.folder = folder
        self._records = msgspec.json.Decoder(_RecordFile)
        self._states = msgspec.json.Decoder(state)
        self._logged: set[str] = set()

    def prepare(self) -> None:
        """Create the folder, show that records can be written, and remove what dead writers left.

        Raises:
            NotPrivateError: what is in the folder's place is no folder of this user.
            OSError: records cannot be written.
        """
        # Records say which processes are ended and which folders removed: no other user may write any.
        private_folder(self.folder)
        written, lock = _write(self.folder, b"", durable=False)
        try:
            link = written.with_name(f"{written.name}-link")
            link.hardlink_to(written)  # as ``create`` does; not every file system has hard links
            link.unlink()
        finally:
            _discard(written, lock)
        for path in self.folder.glob(f"{_NEW}*"):
            try:
                left = lock_file(path)
                if left is not None:
                    _discard(path, left)
            except OSError as error:
                logger.warning("Cannot remove %s: %s", path, error.strerror)

    def identity(self) -> str:
        """The journal's name, 32 random hexadecimal digits that are drawn once for a folder.

        Raises:
            OSError: the name can neither be read nor be written.
            JournalError: the file has something else in it.
        """
        path = self.folder / "identity"
        if not os.path.lexists(path):
            # On the disk at once, so that a loss of power cannot lead to a second name.
            written, lock = _write(self.folder, f"{secrets.token_hex(16)}\n".encode(), durable=True)
            try:
                with contextlib.suppress(FileExistsError):  # another worker was faster
                    path.hardlink_to(written)
                _sync_folder(self.folder)
            finally:
                _discard(written, lock)
        name = _read_small(path).decode(errors="replace").strip()
        if _IDENTITY.fullmatch(name) is None:
            raise JournalError(f"{path} is damaged: it does not contain 32 hexadecimal digits")
        return name

    def create(self, key: ExecutionKey, state: State) -> JournalRecord[State]:
        """Record an execution before anything of it is started.

        Raises:
            HeldError: there is a record of it.
            OSError: the record cannot be written.
        """
        path = self._path(key)
        written, lock = _write(self.folder, _encode(key, state, None), durable=False)
        try:
            path.hardlink_to(written)
        except FileExistsError as error:
            os.close(lock)
            raise HeldError(f"the record {path} exists") from error
        except BaseException:
            os.close(lock)
            raise
        finally:
            with contextlib.suppress(OSError):  # a second name, which the next start removes
                written.unlink()
        return JournalRecord(path, lock, key, state, None)

    def take(self, key: ExecutionKey) -> JournalRecord[State] | None:
        """Take an execution that a dead worker left; ``None`` if there is no record of it.

        Raises:
            HeldError: another live process has it.
            UnreadableError: the record cannot be read.
        """
        path = self._path(key)
        lock = self._lock_record(path)
        return self._read(path, lock) if lock is not None else None

    def take_free(self) -> list[JournalRecord[State]]:
        """Take every execution that a dead worker left; log once what cannot be read."""
        taken = []
        for path in sorted(self.folder.glob(f"*{_RECORD}")):
            try:
                lock = self._lock_record(path)
                if lock is not None:
                    taken.append(self._read(path, lock))
            except HeldError:
                continue
            except UnreadableError as error:
                if path.name not in self._logged:
                    self._logged.add(path.name)
                    logger.error("%s", error)
        return taken

    def _path(self, key: ExecutionKey) -> Path:
        digest = hashlib.sha256(f"{key.task_id}\0{key.execution_id}".encode(errors="surrogatepass"))
        run = re.sub(r"[^A-Za-z0-9_-]", "_", key.task_id)[:64]
        return self.folder / f"{run}-{digest.hexdigest()[:32]}{_RECORD}"

    def _lock_record(self, path: Path) -> int | None:
        """Lock a record; ``None`` if there is none."""
        while True:
            try:
                lock = lock_file(path)
            except OSError as error:
                if not os.path.lexists(path):  # on any error, such as too few descriptors
                    return None
                raise _unreadable(path, error.strerror or str(error)) from error
            if lock is None:
                raise HeldError(f"another worker has it: {path} is locked")
            if is_open_file(lock, path):
                return lock
            os.close(lock)  # its holder replaced or removed it just now

    def _read(self, path: Path, lock: int) -> JournalRecord[State]:
        try:
            status = os.fstat(lock)
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, "it is not a regular file")
            if status.st_size > _MAX_RECORD:
                raise _unreadable(path, f"it is larger than {_MAX_RECORD} bytes")
            record = self._records.decode(os.pread(lock, status.st_size, 0))
            state = self._states.decode(record.state)
            key = ExecutionKey(record.task_id, record.execution_id)
            if path != self._path(key):
                raise _unreadable(path, f"it is the record of {key}, which has another file name")
        except BaseException as error:
            os.close(lock)
            # msgspec's errors are ValueErrors, but for JSON that is nested too deep.
            if isinstance(error, (OSError, ValueError, RecursionError)):
                raise _unreadable(path, str(error)) from error
            raise
        return JournalRecord(path, lock, key, state, record.outcome)


def _read_small(path: Path) -> bytes:
    """Read a file of a line; of another one its beginning. What is in its place is never waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(256) or b""


def _encode(key: ExecutionKey, state: msgspec.Struct, outcome: Outcome | None) -> bytes:
    if outcome is not None:
        # A message of the operating system may contain surrogates (PEP 383). A task's own words may
        # contain a secret, which must not be in a record.
        message = outcome.message.encode("utf-8", "replace").decode()
        outcome = dataclasses.replace(outcome, message=message, task_text=None)
    record = _RecordFile(
        task_id=key.task_id,
        execution_id=key.execution_id,
        state=msgspec.Raw(msgspec.json.encode(state)),
        outcome=outcome,
    )
    return msgspec.json.encode(record) + b"\n"


def _write(folder: Path, data: bytes, *, durable: bool) -> tuple[Path, int]:
    """Write a file under a temporary name; return its path and a descriptor that holds its lock.

    Raises:
        OSError: the file was not written.
    """
    while True:
        descriptor, name = tempfile.mkstemp(prefix=_NEW, dir=folder)
        path = Path(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_open_file(descriptor, path):
                _write_all(descriptor, data)
                if durable:
                    os.fsync(descriptor)
                return path, descriptor
        except BlockingIOError:
            pass
        except BaseException:
            _discard(path, descriptor)
            raise
        # A worker that starts took it for a dead writer's, before it was locked.
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:  # a full disk accepts a part, and fails at the next write
        data = data[os.write(descriptor, data) :]


def _discard(path: Path, lock: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    os.close(lock)


def private_folder(path: Path) -> bool:
    """Create a folder that only this user can use, or close an existing one to others.

    Returns whether the folder was created.

    Raises:
        NotPrivateError: the path is no folder, or belongs to another user.
        OSError: the folder cannot be created.
    """
    try:
        path.mkdir(mode=0o700)
        created = True
    except FileExistsError:
        created = False
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotPrivateError(errno.EEXIST, "it is not a folder", str(path))
    if status.st_uid != os.geteuid():
        raise NotPrivateError(errno.EEXIST, "it belongs to another user", str(path))
    if stat.S_IMODE(status.st_mode) != 0o700:
        path.chmod(0o700)
    return created


def lock_file(path: Path, *, create: bool = False) -> int | None:
    """Open and lock a file; ``None`` while another process has the lock. ``create`` a missing file.

    Raises:
        OSError: the file cannot be opened.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
    try:
        # For writing, which the record locks need to which NFS maps flock(2). Not inherited (PEP 446).
        descriptor = os.open(path, os.O_RDWR | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a record can be read
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_open_file(descriptor: int, path: Path) -> bool:
    """Whether a path names the file that a descriptor has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, why: str) -> UnreadableError:
    return UnreadableError(
        f"The record {path} of a task cannot be read: {why}. Its worker died, and what the task left cannot "
        "be found: look for running processes of the task, end them, and remove the file"
    )
