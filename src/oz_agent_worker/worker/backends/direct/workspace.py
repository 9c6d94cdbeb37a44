"""Workspaces: a folder a task under ``workspace_root``, held by one execution at a time.

::

    <workspace_root>/<task ID>/            mode 0700; the task runs here, or in target_dir
    <workspace_root>/<task ID>/.oz/        the worker's own files for the task
    <workspace_root>/.removed-<random>/    on its way out
    <workspace_root>/.journal-<digest>/    the records of the executions of one worker ID, and
                                           what its workers are told apart by (``slots``)

The folder is named after the run, as the public worker does it, so that scripts find it
and a follow-up of the run finds what was left there. While another execution of that
run holds it (a lock that the kernel drops when its holder dies), an execution gets a
folder of its own beside it.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.journal import is_open_file

__all__ = ["Workspace", "WorkspaceError", "WorkspaceRoot", "is_safe_component", "remove_tree"]

logger = logging.getLogger(__name__)

_PRIVATE: Final = ".oz"
_REMOVED: Final = ".removed-"
_JOURNAL: Final = ".journal-"
#: The longest name of a file, in bytes (Linux: NAME_MAX).
_NAME_MAX: Final = 255


class WorkspaceError(Exception):
    """This task can have no workspace: its ID or what stands in its place forbids it."""


def is_safe_component(name: str) -> bool:
    """Whether a name stands for an entry of its folder, wherever it is put.

    A leading dot is refused besides: those names are the worker's own.
    """
    encoded = name.encode(errors="surrogatepass")
    return (
        bool(name) and not name.startswith(".") and not set("/\0") & set(name) and len(encoded) <= _NAME_MAX
    )


@dataclass(frozen=True, slots=True)
class Workspace:
    """One execution's folder. ``directory`` is where its processes run."""

    folder: Path
    directory: Path
    reused: bool
    lock: int

    @property
    def environment_file(self) -> Path:
        """Where the setup command leaves variables for the agent."""
        return self.folder / _PRIVATE / "environment"

    @property
    def git_config(self) -> Path:
        """The task's own global git configuration."""
        return self.folder / _PRIVATE / "gitconfig"

    def harness_home(self, harness: str) -> Path:
        """Where a harness keeps its settings and sessions for this task."""
        return self.folder / _PRIVATE / harness

    def keep(self) -> None:
        """Let go of the folder and leave it where it is."""
        os.close(self.lock)

    def remove(self) -> None:
        """Let go of the folder and remove it; never anything outside it.

        It is renamed first: whoever wants the name gets it at once, however long the
        rest takes, and never meets half a workspace.

        Raises:
            OSError: part of it cannot be removed.
        """
        grave = self.folder.parent / f"{_REMOVED}{secrets.token_hex(8)}"
        try:
            self.folder.rename(grave)
        except FileNotFoundError:  # the task removed it
            return
        finally:
            os.close(self.lock)
        remove_tree(grave)


def _nobody(_name: str) -> None:
    """Take no note of a name."""


class WorkspaceRoot:
    """The folder that holds the workspaces, and ``target_dir`` where the tasks share one."""

    def __init__(self, root: Path, target: Path | None = None, *, holder: str) -> None:
        """``holder`` says in a lock who holds it, for the logs of whoever finds it taken."""
        self._root = Path(os.path.abspath(root.expanduser()))  # noqa: PTH100 - links stay as configured
        self._target = target.expanduser().resolve() if target is not None else None
        self._holder = holder

    def prepare(self) -> None:
        """Create the root, and show that tasks can have folders in it.

        Raises:
            PreflightError: they cannot, or ``target_dir`` is no folder to run in.
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
                f"backend.direct.target_dir: {self._target} is no folder that the worker's user may enter. "
                "Create it, or correct --target-dir"
            )

    def journal(self, worker_id: str) -> Path:
        """Where the records of a worker's executions stand."""
        return self._root / f"{_JOURNAL}{_digest(worker_id)}"

    def open(
        self, key: ExecutionKey, harness: str | None = None, *, chosen: Callable[[str], None] = _nobody
    ) -> Workspace:
        """Take the workspace of an execution; ``harness`` names one that needs a home in it.

        ``chosen`` is told of the folder's name before the folder is made, so that a record
        of it can be; it may be told of a second one.

        Raises:
            WorkspaceError: the task cannot have one.
            OSError: the file system gave none.
        """
        if not is_safe_component(key.task_id):
            raise WorkspaceError(
                "its ID names no folder: it is empty or too long, holds `/`, or begins with `.`"
            )
        workspace = self._choose((key.task_id, _own_name(key)), chosen)
        try:
            _create_empty(workspace.environment_file)
            _create_empty(workspace.git_config)
            if harness is not None:
                _private_folder(workspace.harness_home(harness))
        except BaseException:
            if workspace.reused:
                workspace.keep()
            else:
                workspace.remove()
            raise
        return workspace

    def reopen(self, name: str) -> Workspace | None:
        """Take a workspace as its dead holder left it; ``None`` where it is gone or has another holder.

        Raises:
            WorkspaceError: what stands there is none.
            OSError: the file system does not give it.
        """
        return self._take(name) if os.path.lexists(self._root / name) else None

    def _choose(self, names: Iterable[str], chosen: Callable[[str], None]) -> Workspace:
        for name in names:
            chosen(name)
            workspace = self._take(name)
            if workspace is not None:
                return workspace
        raise WorkspaceError("another execution holds its workspace")

    def _take(self, name: str) -> Workspace | None:
        """Create or reuse a folder and lock it; ``None`` while another execution holds it."""
        folder = self._root / name
        if self._target is not None and self._target.is_relative_to(folder.resolve()):
            raise WorkspaceError("its ID names the folder that holds target_dir")
        while True:
            try:
                created = _private_folder(folder)
                _private_folder(folder / _PRIVATE)
                lock = _lock(folder / _PRIVATE / "lock", self._holder)
            except FileNotFoundError:
                if not self._root.is_dir():
                    raise
                continue  # its last holder removed it meanwhile
            except BaseException:
                _remove_empty(folder)
                raise
            if lock is None:
                return None
            if is_open_file(lock, folder / _PRIVATE / "lock"):
                return Workspace(folder, self._target or folder, reused=not created, lock=lock)
            os.close(lock)

    def remove_leftovers(self) -> None:
        """Remove what an interrupted removal left."""
        for grave in self._root.glob(f"{_REMOVED}*"):
            try:
                remove_tree(grave)
            except OSError as error:
                logger.warning("Cannot remove the rest of a workspace, %s: %s", grave, error.strerror)


def _own_name(key: ExecutionKey) -> str:
    # The run's part is cut by bytes so that any ID that is a name gives one again.
    run = os.fsencode(key.task_id)[: _NAME_MAX - 17].decode(errors="ignore")
    execution = f"{key.task_id}\0{key.execution_id}"
    return f"{run}-{_digest(execution)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]


def _remove_empty(folder: Path) -> None:
    """Remove a workspace that nobody has begun to use; a file in it keeps it."""
    with contextlib.suppress(OSError):
        (folder / _PRIVATE).rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _private_folder(path: Path) -> bool:
    """Make a folder that is this user's alone; whether it was created.

    Raises:
        WorkspaceError: what stands there is no folder, or not this user's.
    """
    created = True
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        created = False
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise WorkspaceError(f"{path} stands in its way and is no folder")
    if status.st_uid != os.geteuid():
        raise WorkspaceError(f"{path} stands in its way and belongs to another user")
    if stat.S_IMODE(status.st_mode) != 0o700:
        path.chmod(0o700)
    return created


def _create_empty(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _lock(path: Path, holder: str) -> int | None:
    """Lock a file; ``None`` while someone else has. Never inherited by a child (PEP 446)."""
    # A regular file opened for writing: NFS maps flock(2) to record locks and needs both.
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(OSError):  # who holds it is for people: a full disk does not matter
            os.ftruncate(lock, 0)
            os.write(lock, holder.encode())
    except BlockingIOError:
        logger.info("%s is held by %s", path.parent.parent, os.pread(lock, 256, 0).decode(errors="replace"))
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, read-only folders too; links are not followed.

    Raises:
        OSError: part of it cannot be removed.
    """
    opened = False
    while os.path.lexists(path):
        try:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
        except FileNotFoundError:  # another worker removes it too
            continue
        except PermissionError:
            if opened:
                raise
            opened = True
            _open_folders(path)


def _open_folders(path: Path) -> None:
    """Let the owner list and change every folder below ``path``."""
    folders = [os.fspath(path)]
    while folders:
        folder = folders.pop()
        os.chmod(folder, 0o700)  # noqa: PTH101 - a tree can be large, and a Path a file is dear
        with os.scandir(folder) as entries:
            folders.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
