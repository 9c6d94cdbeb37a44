"""The checks of ``doctor`` for the direct backend: agent, workspaces, journal, free space."""

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.backends.journal import Journal
from oz_agent_worker.worker.checks import Check, CheckResult, fail, ok, warn
from oz_agent_worker.worker.config.schema import DirectConfig

from .agent_program import AgentSources
from .records import DirectState, prepare_journal
from .workspace import WorkspaceRoot

__all__ = ["check_journal", "direct_checks"]

_GIB: Final = 1024**3
#: With less, in bytes, the checkout of a usual repository may not fit.
_LITTLE_SPACE: Final = 2 * _GIB


def direct_checks(config: DirectConfig, *, worker_id: str, agents: AgentSources) -> list[Check]:
    """The checks, in the order in which they are shown."""
    target = Path(config.target_dir) if config.target_dir else None
    root = WorkspaceRoot(Path(config.workspace_root), target, holder=f"doctor, process {os.getpid()}")
    records = root.journal(worker_id)

    async def agent() -> CheckResult:
        return ok(str(agents.choose()))

    async def workspaces() -> CheckResult:
        root.prepare()
        return ok(str(target or config.workspace_root))

    async def journal() -> CheckResult:
        return check_journal(records)

    async def free_space() -> CheckResult:
        where = target or Path(config.workspace_root)
        usage = shutil.disk_usage(where)
        detail = f"{usage.free / _GIB:.1f} GiB of {usage.total / _GIB:.1f} GiB free on {where}"
        if usage.free < _LITTLE_SPACE:
            return warn(
                detail, "free some space, or set backend.direct.workspace_root to a larger file system"
            )
        return ok(detail)

    async def shell() -> CheckResult:
        if not (config.setup_command or config.teardown_command):
            return ok("no setup_command and no teardown_command")
        if not os.access("/bin/sh", os.X_OK):
            return fail("/bin/sh, which runs setup_command and teardown_command, is missing", "install it")
        return ok("/bin/sh is there")

    return [
        Check("agent", agent),
        Check("workspaces", workspaces),
        Check("journal", journal, ("workspaces",)),
        Check("free space", free_space, ("workspaces",)),
        Check("setup and teardown", shell),
    ]


def check_journal(folder: Path) -> CheckResult:
    """Check that the records of tasks can be kept in ``folder``.

    A missing folder is left to the worker to create, because it must belong to the worker's user.

    Raises:
        PreflightError: records cannot be kept there.
    """
    if not os.path.lexists(folder):
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=folder.parent) as probe:
            prepare_journal(Journal(Path(probe), DirectState))
        return ok(f"{folder} can be created")
    mode = stat.S_IMODE(folder.lstat().st_mode)
    prepare_journal(Journal(folder, DirectState))
    if mode & 0o077:
        return warn(
            f"{folder} was open to others (mode {mode:04o}) and is closed to them again",
            "find out who opened it: records say which processes a worker ends and which folders it removes",
        )
    return ok(str(folder))
