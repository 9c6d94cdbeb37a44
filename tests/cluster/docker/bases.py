"""Base images made on this machine: a small Debian with Python, and BusyBox."""

import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Final

from tests.cluster.cache import cache_root, locked, progress
from tests.cluster.errors import ProvisionError

__all__ = ["RELEASE", "busybox_tree", "debian_tree"]

#: The oldest Debian whose Python the product supports.
RELEASE: Final = "bookworm"
INCLUDED: Final = "python3,python3-venv,ca-certificates"
#: What an image needs no part of.
LEFT_OUT: Final = ("./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/man", "./dev")


def debian_tree(debootstrap: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return a tar file of a Debian with Python; made once, in about a minute, and cached.

    Raises:
        ProvisionError: debootstrap failed; the text has its output.
    """
    folder = cache_root(environ) / "bases"
    image = folder / f"debian-{RELEASE}-python.tar"
    with locked(folder):
        if not image.exists():
            progress(f"making a Debian {RELEASE} with debootstrap (once, about a minute)")
            with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as scratch:
                tree, archive = Path(scratch) / "tree", Path(scratch) / "tar"
                _debootstrap(debootstrap, tree)
                command = [
                    "tar",
                    "--create",
                    "--file",
                    str(archive),
                    "--directory",
                    str(tree),
                    "--numeric-owner",
                ]
                _run([*command, *(f"--exclude={path}/*" for path in LEFT_OUT), "."])
                archive.rename(image)
    return image


def _debootstrap(program: Path, tree: Path) -> None:
    # Out of its package, the program has its parts beside it.
    parts = program.parents[2] / "usr" / "share" / "debootstrap"
    environment = {"DEBOOTSTRAP_DIR": str(parts)} if parts.is_dir() else {}
    options = ["--variant=minbase", f"--include={INCLUDED}", RELEASE, str(tree)]
    _run([str(program), *options, *_mirror()], environment)


def _mirror() -> list[str]:
    """The mirror that this machine takes Debian's packages from, where it says so."""
    for source in sorted(Path("/etc/apt").glob("sources.list*")) + sorted(
        Path("/etc/apt/sources.list.d").glob("*")
    ):
        if source.is_file() and (match := re.search(r"https?://\S+/debian/?(?=\s)", source.read_text())):
            return [match[0]]
    return []


def _run(command: list[str], more: Mapping[str, str] | None = None) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, **(more or {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProvisionError(f"{command[0]} failed: {(done.stderr or done.stdout)[-1000:]}")


def busybox_tree(busybox: Path, target: Path) -> Path:
    """Write a tar file of BusyBox with all its applets to ``target``, and return it."""
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    with tarfile.open(target, "w") as archive:
        for folder in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        content = busybox.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, BytesIO(content))
        for applet in sorted(set(listed.stdout.split()) - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return target
