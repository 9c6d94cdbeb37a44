"""A journal on disk: what must be known of an execution when its worker is killed.

For backends whose work no cluster keeps a record of. One file an execution::

    <folder>/<run>-<digest>.json    a record: the execution, the backend's state, the outcome
    <folder>/.new-<random>          a record on its way; what a dead writer left goes at the next start
    <folder>/identity               the journal's name, for good

Whoever holds the lock of a record's file (flock(2), which the kernel drops when its
holder dies) has the execution; so two workers over one folder never take the same one,
and a dead worker's are free. A record is replaced as a whole: the successor is locked
before rename(2) or link(2) makes it visible, so that it is never free in between, and
never half.

An outcome is on the disk (fsync) when ``conclude`` returns. The records before it are
not: against a SIGKILL the page cache is enough, and after a loss of power no process is
left of which the record could tell. What such a loss leaves unreadable is said and
skipped; the control plane ends that run when its lease is over.

Nothing secret belongs in a record. The functions block.
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
from collections.abc import Iterator
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
    "UnreadableError",
    "is_open_file",
    "lock_file",
]

logger = logging.getLogger(__name__)

State = TypeVar("State", bound=msgspec.Struct)

_RECORD: Final = ".json"
_NEW: Final = ".new-"
_IDENTITY: Final = re.compile(r"[0-9a-f]{32}")


class JournalError(Exception):
    """The execution cannot be had from the journal; the text says why."""


class HeldError(JournalError):
    """Another live process has the execution."""


class UnreadableError(JournalError):
    """Its record cannot be read, so that nothing is known of it but that it was started."""


class _RecordFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The format. ``state`` is the backend's own."""

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
            OSError: it was not written; the record stands as it was.
        """
        self._replace(state, self.outcome, durable=False)

    def conclude(self, outcome: Outcome) -> None:
        """Write how the execution ended, and return when the disk has it.

        Raises:
            OSError: it may not be there; after a crash the record may tell of no end.
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
        """Forget the execution. Harmless when done before.

        Raises:
            OSError: the record stays, and is this process's as long as that lives: free, it
                would be taken for a dead worker's, again and again.
        """
        if self._lock is not None:
            self._path.unlink(missing_ok=True)
            self.let_go()

    def let_go(self) -> None:
        """Leave the record to whoever takes it next. Harmless when done before."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Journal(Generic[State]):
    """The records in ``folder``. ``state`` is the type of the backend's part."""

    def __init__(self, folder: Path, state: type[State]) -> None:
        self.folder = folder
        self._records = msgspec.json.Decoder(_RecordFile)
        self._states = msgspec.json.Decoder(state)
        self._said: set[str] = set()

    def prepare(self) -> None:
        """Create the folder, show that records can be written, and remove what dead writers left.

        Raises:
            OSError: they cannot, or what stands there is not this user's own folder.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        status = self.folder.lstat()
        # Records say which processes are ended and which folders removed: nobody else may write any.
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(0, "what stands there is no folder", str(self.folder))
        if status.st_uid != os.geteuid():
            raise PermissionError(0, "it belongs to another user", str(self.folder))
        self.folder.chmod(0o700)
        written, lock = _write(self.folder, b"", durable=False)
        try:
            twin = written.with_name(f"{written.name}-twin")
            twin.hardlink_to(written)  # as ``create`` does; not every file system has links
            twin.unlink()
        finally:
            _discard(written, lock)
        for path in self.folder.glob(f"{_NEW}*"):
            left = lock_file(path)
            if left is not None:
                _discard(path, left)

    def identity(self) -> str:
        """Name the journal, in 32 hexadecimal digits: drawn once, and the same as long as the folder stands.

        Raises:
            OSError: its name can neither be read nor be written.
            JournalError: what stands in its place is no name.
        """
        path = self.folder / "identity"
        with contextlib.suppress(FileExistsError):  # another worker was faster
            if not os.path.lexists(path):
                self._name_once(path)
        name = path.read_bytes().decode(errors="replace").strip()
        if _IDENTITY.fullmatch(name) is None:
            raise JournalError(f"{path} is damaged: it holds no 32 hexadecimal digits")
        return name

    def _name_once(self, path: Path) -> None:
        """Have a name on the disk: what it is told by must not be drawn again after a loss of power."""
        written, lock = _write(self.folder, f"{secrets.token_hex(16)}\n".encode(), durable=True)
        try:
            path.hardlink_to(written)
            _sync_folder(self.folder)
        finally:
            _discard(written, lock)

    def create(self, key: ExecutionKey, state: State) -> JournalRecord[State]:
        """Record an execution before anything of it is started.

        Raises:
            HeldError: a record of it stands.
            OSError: it cannot be written.
        """
        path = self._path(key)
        written, lock = _write(self.folder, _encode(key, state, None), durable=False)
        try:
            path.hardlink_to(written)
        except FileExistsError as error:
            os.close(lock)
            raise HeldError(f"the record {path} stands already") from error
        except BaseException:
            os.close(lock)
            raise
        finally:
            with contextlib.suppress(OSError):  # a second name, which goes at the next start
                written.unlink()
        return JournalRecord(path, lock, key, state, None)

    def take(self, key: ExecutionKey) -> JournalRecord[State] | None:
        """Take an execution that a dead worker left; ``None`` where there is no record of it.

        Raises:
            HeldError: another live process has it.
            UnreadableError: the record cannot be read.
        """
        path = self._path(key)
        lock = self._lock_record(path)
        return self._read(path, lock) if lock is not None else None

    def take_free(self) -> list[JournalRecord[State]]:
        """Take every execution that a dead worker left; what cannot be read is said, once."""
        return list(self._take_free())

    def _take_free(self) -> Iterator[JournalRecord[State]]:
        for path in sorted(self.folder.glob(f"*{_RECORD}")):
            try:
                lock = self._lock_record(path)
                if lock is not None:
                    yield self._read(path, lock)
            except HeldError:
                continue
            except UnreadableError as error:
                if path.name not in self._said:
                    self._said.add(path.name)
                    logger.error("%s", error)

    def _path(self, key: ExecutionKey) -> Path:
        digest = hashlib.sha256(f"{key.task_id}\0{key.execution_id}".encode(errors="surrogatepass"))
        run = re.sub(r"[^A-Za-z0-9_-]", "_", key.task_id)[:64]
        return self.folder / f"{run}-{digest.hexdigest()[:32]}{_RECORD}"

    def _lock_record(self, path: Path) -> int | None:
        """Lock a record that stands; ``None`` where there is none."""
        while True:
            try:
                lock = lock_file(path)
            except OSError as error:
                if not os.path.lexists(path):  # whatever there is not enough of, such as descriptors
                    return None
                raise _unreadable(path, error.strerror or str(error)) from error
            if lock is None:
                raise HeldError(f"another worker has it: {path} is locked")
            if is_open_file(lock, path):
                return lock
            os.close(lock)  # its holder replaced or removed it meanwhile

    def _read(self, path: Path, lock: int) -> JournalRecord[State]:
        try:
            status = os.fstat(lock)
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, "it is no file")
            record = self._records.decode(os.pread(lock, status.st_size, 0))
            state = self._states.decode(record.state)
            key = ExecutionKey(record.task_id, record.execution_id)
            if path != self._path(key):
                raise _unreadable(path, f"it is the record of {key}, whose name is another")
        except BaseException as error:
            os.close(lock)
            if isinstance(error, (OSError, ValueError)):  # msgspec's errors are ValueErrors
                raise _unreadable(path, str(error)) from error
            raise
        return JournalRecord(path, lock, key, state, record.outcome)


def _encode(key: ExecutionKey, state: msgspec.Struct, outcome: Outcome | None) -> bytes:
    if outcome is not None:
        # A text of the operating system may hold what is no character (PEP 383). A task's own words may
        # hold a secret, which has no place in a record.
        message = outcome.message.encode("utf-8", "replace").decode()
        outcome = dataclasses.replace(outcome, message=message, words=None)
    record = _RecordFile(
        task_id=key.task_id,
        execution_id=key.execution_id,
        state=msgspec.Raw(msgspec.json.encode(state)),
        outcome=outcome,
    )
    return msgspec.json.encode(record) + b"\n"


def _write(folder: Path, data: bytes, *, durable: bool) -> tuple[Path, int]:
    """Write a file that nobody knows yet; its path, and a descriptor that holds its lock.

    Raises:
        OSError: there is no such file.
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
        # Another worker, which starts, took it for a dead writer's before it was locked.
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:  # a disk that fills takes a part first, and says so with the next
        data = data[os.write(descriptor, data) :]


def _discard(path: Path, lock: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    os.close(lock)


def lock_file(path: Path, *, create: bool = False) -> int | None:
    """Open and lock a file; ``None`` while someone else has it. ``create`` it where it is missing.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = _open_to_lock(path, os.O_CREAT if create else 0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_to_lock(path: Path, create: int) -> int:
    """Open for writing: NFS maps flock(2) to record locks, which need that. Never inherited (PEP 446)."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, os.O_RDWR | create | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:  # what stands can still be read, and told
            raise
        return os.open(path, os.O_RDONLY | flags)


def is_open_file(descriptor: int, path: Path) -> bool:
    """Whether a path leads to the file that a descriptor has open."""
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
        f"The record {path} of a task cannot be read: {why}. Its worker died, and what it left cannot be "
        "found: see whether processes of that task run, end them, and remove the file"
    )
