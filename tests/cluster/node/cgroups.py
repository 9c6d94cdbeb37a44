"""The control group under which all of a node's Pods live, in every hierarchy that is mounted."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["add_cgroup", "cgroups", "hierarchies", "remove_cgroup"]

# What the kubelet wants of version 2's groups.
CONTROLLERS: Final = ("cpuset", "cpu", "memory", "pids")


def hierarchies(mountinfo: str | None = None) -> Iterator[Path]:
    """Yield where cgroups are mounted, of version 1 and 2; ``mountinfo`` is as in proc_pid_mountinfo(5)."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in {"cgroup", "cgroup2"}:
            yield Path(before.split()[4])


def add_cgroup(name: str) -> None:
    """Make the group in every hierarchy.

    Raises:
        OSError: a hierarchy cannot be written.
    """
    for hierarchy in hierarchies():
        if (control := hierarchy / "cgroup.subtree_control").exists():
            _enable(control, (hierarchy / "cgroup.controllers").read_text().split())
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists() and not (group / setting).read_text().strip():
                # Version 1: a group without them can have no process.
                (group / setting).write_text((hierarchy / setting).read_text())


def _enable(control: Path, available: list[str]) -> None:
    for controller in CONTROLLERS:
        if controller in available:
            with suppress(OSError):  # the kubelet says better what it lacks
                control.write_text(f"+{controller}")


def cgroups(prefix: str) -> list[Path]:
    """Return the groups at the top of any hierarchy whose name begins so."""
    return sorted(group for hierarchy in hierarchies() for group in hierarchy.glob(f"{prefix}*"))


def remove_cgroup(group: Path, *, timeout: float = 5.0) -> None:
    """Remove a group and those in it; their processes must have been killed.

    Raises:
        OSError: one is still in use after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    folders = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for folder in [*folders, group]:
        while True:
            try:
                folder.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                # The kernel empties the group a moment after its last process.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                break
