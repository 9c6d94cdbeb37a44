"""Process 1 of a node's namespaces; run as a file, because it needs nothing of this package.

``init.py FOLDER``: what the kubelet and containerd leave in fixed places shall touch
nothing of the machine, and go when they go. So the folders where they write get an
overlay each, and the kernel settings that the kubelet insists on become plain files.
Both are mounts of this namespace. With this process the kernel kills every other one
of the namespace, and its mounts go with the last of them.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["OVERLAID", "READY", "main"]

READY: Final = "ready"
"""The file in FOLDER that says that all mounts are in place."""

# /run: containerd's shims and network namespaces. /var/lib: the kubelet's plugins, the
# network plugins' results. /var/log: the kubelet's links to the containers' logs.
OVERLAID: Final = ("/run", "/var/lib", "/var/log")

# kubelet, pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables
KERNEL_SETTINGS: Final = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def mount(*arguments: str) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def overlay(place: Path, own: Path) -> None:
    """Let writes below ``place`` go to ``own``; what is there stays visible."""
    upper, work = own / "upper", own / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", str(place))


def pretend(setting: Path, own: Path) -> None:
    """Put a file in the place of a kernel setting, which can be written and does nothing."""
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(setting.read_text())
    mount("--bind", str(own), str(setting))


def main(folder: Path) -> None:
    """Mount, say so, and from then on collect the processes whose parents have ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    private = folder / "private"
    private.mkdir()
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(private))
    for place in OVERLAID:
        overlay(Path(place), private / place.strip("/").replace("/", "-"))
    for setting in KERNEL_SETTINGS:
        pretend(Path("/proc/sys") / setting, private / "sysctl" / setting)
    (folder / READY).touch()
    while True:
        signal.sigwait({signal.SIGCHLD})
        collect()


def collect() -> None:
    """Wait for all children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
