"""Workspaces: a folder for each task under ``workspace_root``, held by one execution at a time.

::

    <workspace_root>/<task ID>/            mode 0700; the task runs here, or in target_dir
    <workspace_root>/.task-<digest>/       the worker's own files for the task, and the lock
    <workspace_root>/.removed-<random>/    one of these that is being removed
    <workspace_root>/.journal-<digest>/    the records of one worker ID's executions, and the
                                           slots of its workers (``instance_slots``)

The folder has the name of the run, as with the public worker, so that scripts find it and a
follow-up of the run finds what was left there. It is empty at first: `git clone URL .` refuses any other
folder. While another execution of the run holds it (by
a lock that the kernel drops when its holder dies), an execution gets a folder of its own.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.journal import is_open_file, lock_file, private_folder

__all__ = ["Workspace", "WorkspaceError", "WorkspaceRoot", "is_safe_component", "remove_tree"]

logger = logging.getLogger(__name__)

_PRIVATE: Final = ".task-"
_REMOVED: Final = ".removed-"
_JOURNAL: Final = ".journal-"
#: The longest name of a file, in bytes (Linux: NAME_MAX).
_NAME_MAX: Final = 255
#: Errors that what is in a workspace's place causes, and that a folder of another name may not have.
_SPOILED: Final = frozenset(
    {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM}
)
#: How much of a lock's file is logged as its holder's name, in bytes.
_HOLDER_MAX: Final = 256


class WorkspaceError(Exception):
    """This task can have no workspace, because of its ID or because another execution has it."""


def is_safe_component(name: str) -> bool:
    """Whether a name is one entry of its folder: no path, not too long, not empty.

    A leading dot is refused too, because those names are the worker's own.
    """
    encoded = name.encode(errors="surrogatepass")
    return (
        bool(name) and not name.startswith(".") and not set("/\0") & set(name) and len(encoded) <= _NAME_MAX
    )


@dataclass(frozen=True, slots=True)
class Workspace:
    """One execution's folder. ``directory`` is where its processes run, ``private`` has its own files."""

    folder: Path
    private: Path
    directory: Path
    reused: bool
    lock: int

    @property
    def environment_file(self) -> Path:
        """Where the setup command leaves variables for the agent."""
        return self.private / "environment"

    @property
    def git_config(self) -> Path:
        """The task's own global git configuration."""
        return self.private / "gitconfig"

    def harness_home(self, harness: str) -> Path:
        """Where a harness keeps its settings and sessions for this task."""
        return self.private / harness

    def keep(self) -> None:
        """Unlock the folder and leave it in place."""
        os.close(self.lock)

    def remove(self) -> None:
        """Unlock the folder and remove it, and nothing outside it.

        Both folders are renamed first, so that the name is free at once and no process sees half a
        workspace; the one with the lock goes last.

        Raises:
            OSError: part of it cannot be removed.
        """
        removed = [_removed_name(self.folder), _removed_name(self.private)]
        try:
            for path, name in zip((self.folder, self.private), removed, strict=True):
                with contextlib.suppress(FileNotFoundError):  # the task removed it
                    path.rename(name)
        finally:
            os.close(self.lock)
            for name in removed:
                remove_tree(name)


class WorkspaceRoot:
    """The folder with the workspaces, and ``target_dir`` if the tasks share one."""

    def __init__(self, root: Path, target: Path | None = None, *, holder: str) -> None:
        """``holder`` is written into a lock, for the log of a worker that finds it taken."""
        self._root = Path(os.path.abspath(root.expanduser()))  # noqa: PTH100 - links stay as configured
        self._target = target.expanduser().resolve() if target is not None else None
        self._holder = holder

    def prepare(self) -> None:
        """Create the root, and show that folders can be created in it.

        Raises:
            PreflightError: they cannot, or tasks cannot run in ``target_dir``.
        """
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            Path(tempfile.mkdtemp(prefix=".probe-", dir=self._root)).rmdir()
        except OSError as error:
            raise PreflightError(
                f"backend.direct.workspace_root: {self._root} cannot hold workspaces: {error.strerror}. "
                "Let the worker's user write there, or set workspace_root to a folder where it may"
            ) from error
        if self._target is not None and not (
            self._target.is_dir() and os.access(self._target, os.R_OK | os.X_OK)
        ):
            raise PreflightError(
                f"backend.direct.target_dir: {self._target} is not a folder that the worker's user may "
                "enter. Create it, or correct --target-dir"
            )

    def journal(self, worker_id: str) -> Path:
        """The folder for the records of a worker's executions."""
        return self._root / f"{_JOURNAL}{_digest(worker_id)}"

    def open(
        self,
        key: ExecutionKey,
        harness: str | None = None,
        *,
        chosen: Callable[[str], None] = lambda _name: None,
    ) -> Workspace:
        """Take the workspace of an execution; ``harness`` names one that needs a home in it.

        ``chosen`` gets the folder's name before the folder is created, so that the caller can
        record it; it is called again if another execution has the first folder.

        Raises:
            WorkspaceError: the task cannot have a workspace.
            NotPrivateError: what is in both folders' places is no folder of this user.
            OSError: the file system refused.
        """
        if not is_safe_component(key.task_id):
            raise WorkspaceError(
                "its ID names no folder: it is empty or too long, contains `/`, or begins with `.`"
            )
        for name in (key.task_id, _own_name(key)):
            chosen(name)
            try:
                workspace = self._take_prepared(name, harness)
            except OSError as error:
                if name != key.task_id or error.errno not in _SPOILED:
                    raise
                # What somebody else left in its place is no fault of this execution.
                logger.warning(
                    "Task %s gets a folder beside %s, which cannot be used: %s", key, name, error.strerror
                )
                continue
            if workspace is not None:
                return workspace
        raise WorkspaceError("another execution holds its workspace")

    def _take_prepared(self, name: str, harness: str | None) -> Workspace | None:
        """Take a workspace, with empty files and the harness's home in it."""
        workspace = self._take(name)
        if workspace is None:
            return None
        try:
            _create_empty(workspace.environment_file)
            _create_empty(workspace.git_config)
            if harness is not None:
                private_folder(workspace.harness_home(harness))
        except BaseException:
            if workspace.reused:
                workspace.keep()
            else:
                workspace.remove()
            raise
        return workspace

    def reopen(self, name: str) -> Workspace | None:
        """Take a workspace as its dead holder left it; ``None`` if it is gone or has another holder.

        Raises:
            WorkspaceError: the name is that of no workspace.
            OSError: the file system refused.
        """
        exists = os.path.lexists(self._root / name) or os.path.lexists(self.private(name))
        return self._take(name) if exists else None

    def private(self, name: str) -> Path:
        """The folder with the worker's own files for the workspace of that name."""
        return self._root / f"{_PRIVATE}{_digest(name)}"

    def _take(self, name: str) -> Workspace | None:
        """Create or reuse a folder and lock it; ``None`` while another execution holds it."""
        folder, private = self._root / name, self.private(name)
        if self._target is not None and self._target.is_relative_to(_resolved(folder)):
            raise WorkspaceError("its ID names the folder that holds target_dir")
        while True:
            try:
                private_folder(private)
                lock = _lock(private / "lock", self._holder, folder)
            except FileNotFoundError:
                if not self._root.is_dir():
                    raise
                continue  # its last holder removed it just now
            except BaseException:
                with contextlib.suppress(OSError):
                    private.rmdir()
                raise
            if lock is None:
                return None
            if not is_open_file(lock, private / "lock"):
                os.close(lock)
                continue
            try:
                created = private_folder(folder)
            except BaseException:
                _remove_locked(private, lock)
                raise
            return Workspace(folder, private, self._target or folder, reused=not created, lock=lock)

    def remove_leftovers(self) -> None:
        """Remove what interrupted removals left, and the worker's own files for folders that are gone."""
        for private in self._orphans():
            try:
                lock = lock_file(private / "lock", create=True)
                if lock is None:
                    continue
                if private in self._orphans() and is_open_file(lock, private / "lock"):
                    _remove_locked(private, lock)
                else:
                    os.close(lock)
            except OSError:  # another worker's, which has it or removes it too
                continue
        for removed in self._root.glob(f"{_REMOVED}*"):
            try:
                remove_tree(removed)
            except OSError as error:
                logger.warning("Cannot remove the rest of a workspace, %s: %s", removed, error.strerror)

    def _orphans(self) -> set[Path]:
        """The folders with the worker's own files for workspaces that there are not."""
        names = os.listdir(self._root) if self._root.is_dir() else ()  # noqa: PTH208 - names are enough
        private = {self._root / name for name in names if name.startswith(_PRIVATE)}
        return private - {self.private(name) for name in names}


def _removed_name(folder: Path) -> Path:
    return folder.parent / f"{_REMOVED}{secrets.token_hex(8)}"


def _remove_locked(private: Path, lock: int) -> None:
    """Remove a folder with its lock, and then close the lock."""
    removed = _removed_name(private)
    try:
        private.rename(removed)
    finally:
        os.close(lock)
    remove_tree(removed)


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except RuntimeError:  # links in a circle (Python before 3.13)
        return folder


def _own_name(key: ExecutionKey) -> str:
    # Cut by bytes: with the digest the name must not be longer than a name may be.
    run = os.fsencode(key.task_id)[: _NAME_MAX - 17].decode(errors="ignore")
    execution = f"{key.task_id}\0{key.execution_id}"
    return f"{run}-{_digest(execution)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def _create_empty(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _lock(path: Path, holder: str, folder: Path) -> int | None:
    """Lock the workspace ``folder`` for ``holder``; ``None`` while another execution has it.

    Raises:
        OSError: the file cannot be opened for writing, which the record locks need to which NFS
            maps flock(2).
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(OSError):  # the task can replace the file: it may be large, or a pipe
            name = os.pread(lock, _HOLDER_MAX, 0).decode(errors="replace")
            logger.info("%s is held by %s", folder, name)
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    with contextlib.suppress(OSError):  # the holder's name is for people: a full disk does not matter
        os.ftruncate(lock, 0)
        os.write(lock, holder.encode())
    return lock


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, read-only folders too; links are not followed.

    Raises:
        OSError: part of it cannot be removed.
    """
    opened = False
    while os.path.lexists(path):
        try:
            path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
        except FileNotFoundError:  # another worker removes it too
            continue
        except RecursionError:  # rmtree is recursive before Python 3.13
            _flatten(path)
        except PermissionError:
            if opened:
                raise
            opened = True
            _open_folders(path)


def _flatten(path: Path) -> None:
    """Remove what is in a folder, however deep: each folder below it is first moved up into it."""
    folders = [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(os.path.join(path, secrets.token_hex(8)))  # noqa: PTH118 - as above
                    os.rename(entry.path, folders[-1])  # noqa: PTH104
                else:
                    os.unlink(entry.path)  # noqa: PTH108
        os.rmdir(folder)  # noqa: PTH106


def _open_folders(path: Path) -> None:
    """Let the owner list and change every folder below ``path``."""
    folders = [os.fspath(path)]
    while folders:
        folder = folders.pop()
        os.chmod(folder, 0o700)  # noqa: PTH101 - a tree can be large, and a Path per file is slow
        with os.scandir(folder) as entries:
            folders.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
