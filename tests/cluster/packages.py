"""Programs that the tests need and Kubernetes does not bring: container runtimes, BusyBox, Prometheus.

Those of the system are used where they are there. The others are taken out of Debian
packages, into the cache: nothing is installed, so no service starts and nothing that
the machine has is replaced. apt has checked the packages against its signed lists.
"""

import os
import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .cache import cache_root, locked, progress
from .errors import ProvisionError

__all__ = [
    "ENGINE_PROGRAMS",
    "MONITORING_PROGRAMS",
    "PROGRAMS",
    "SHELLS",
    "engine_programs",
    "is_static",
    "monitoring_programs",
    "node_programs",
    "shells",
]

PROGRAMS: Final = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "bridge": "containernetworking-plugins",
    "host-local": "containernetworking-plugins",
    "loopback": "containernetworking-plugins",
    "busybox": "busybox-static",
}
"""Each program of a node, and the Debian package that has it."""

ENGINE_PROGRAMS: Final = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "busybox": "busybox-static",
}
"""Each program that builds images, and the Debian package that has it."""

SHELLS: Final = {"bash": "bash", "busybox": "busybox-static", "dash": "dash"}
"""Each shell that runs a Pod's scripts, and the Debian package that has it."""

MONITORING_PROGRAMS: Final = {"prometheus": "prometheus", "promtool": "prometheus"}
"""Each program that reads metrics and rules, and the Debian package that has it."""

# Network plugins have common names: iproute2 has a `bridge` too.
PLUGINS: Final = frozenset({"bridge", "host-local", "loopback"})
PLUGIN_FOLDERS: Final = ("usr/lib/cni", "opt/cni/bin")
FOLDERS: Final = ("usr/sbin", "usr/bin", "sbin", "bin")

# Programs that say their version; one that cannot lacks a library.
VERSIONED: Final = ("containerd", "runc", "prometheus", "promtool")


def node_programs(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the path of each of ``PROGRAMS``.

    Raises:
        ProvisionError: one is not there, and cannot be taken from a package.
    """
    return _provided(PROGRAMS, environ)


def engine_programs(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the path of each of ``ENGINE_PROGRAMS``; a client without its engine is no engine.

    Raises:
        ProvisionError: one is not there, and cannot be taken from a package.
    """
    return _provided(ENGINE_PROGRAMS, environ, own=frozenset({"docker"}))


def monitoring_programs(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the path of each of ``MONITORING_PROGRAMS``.

    Raises:
        ProvisionError: one is not there, and cannot be taken from a package.
    """
    return _provided(MONITORING_PROGRAMS, environ)


def shells(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the path of each of ``SHELLS``.

    Raises:
        ProvisionError: one is not there, and cannot be taken from a package.
    """
    return _provided(SHELLS, environ)


def _provided(
    programs: Mapping[str, str], environ: Mapping[str, str], own: frozenset[str] = frozenset()
) -> dict[str, Path]:
    """Find each program on the system, but those of ``own``, or in its package."""
    found = {name: None if name in own else _on_the_system(name) for name in programs}
    missing = sorted({programs[name] for name, path in found.items() if path is None})
    if not missing:
        return {name: path for name, path in found.items() if path is not None}
    unpacked = cache_root(environ) / "packages" / _system_name()
    try:
        with locked(unpacked):
            for package in missing:
                _provide(package, unpacked / package)
    except OSError as error:
        raise ProvisionError(f"cannot unpack {', '.join(missing)} into {unpacked}: {error}") from error
    return {name: path or _in(unpacked / programs[name], name) for name, path in found.items()}


def is_static(program: Path) -> bool:
    """Whether an ELF program needs no interpreter (elf(5), PT_INTERP), and so runs in an empty image."""
    content = program.read_bytes()
    if content[:5] != b"\x7fELF\x02":
        return False
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    interpreter = 3
    return all(struct.unpack_from("<I", content, offset + size * n) != (interpreter,) for n in range(count))


def _on_the_system(name: str) -> Path | None:
    on_path = None if name in PLUGINS else shutil.which(name)
    path = Path(on_path) if on_path else _first(Path("/"), name)
    return None if path is None or (name == "busybox" and not is_static(path)) else path


def _first(root: Path, name: str) -> Path | None:
    folders = PLUGIN_FOLDERS if name in PLUGINS else FOLDERS
    places = (root / folder / name for folder in folders)
    return next((place for place in places if os.access(place, os.X_OK)), None)


def _in(folder: Path, name: str) -> Path:
    path = _first(folder, name)
    if path is None:
        raise ProvisionError(f"Debian's package {folder.name} has no program {name}")
    return path


def _provide(package: str, folder: Path) -> None:
    """Unpack a package, unless that has been done."""
    if folder.exists():
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        packages = {
            *PROGRAMS.items(),
            *ENGINE_PROGRAMS.items(),
            *MONITORING_PROGRAMS.items(),
            *SHELLS.items(),
        }
        names = ", ".join(sorted(name for name, of in packages if of == package))
        raise ProvisionError(f"no {names} here, and no apt-get to take Debian's {package} with")
    progress(f"unpacking Debian's {package} (once)")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as scratch:
        archive = _download(package, Path(scratch))
        tree = Path(scratch) / "tree"
        _run(["dpkg-deb", "--extract", str(archive), str(tree)], Path(scratch))
        for name in VERSIONED:
            if (program := _first(tree, name)) is not None:
                _run([str(program), "--version"], Path(scratch))
        tree.rename(folder)


def _download(package: str, folder: Path) -> Path:
    command = ["apt-get", "download", "--quiet", package]
    try:
        _run(command, folder)
    except ProvisionError:
        # The lists are missing, as in most images, or name a version that is no longer there.
        _run(["apt-get", "update", "--quiet"], folder)
        _run(command, folder)
    return next(folder.glob("*.deb"))


def _run(command: Sequence[str], folder: Path) -> None:
    environment = os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise ProvisionError(f"{' '.join(command)} failed: {output}")


def _system_name() -> str:
    """Name the release and the machine: a package of one does not run on the other."""
    release = platform.freedesktop_os_release()
    return f"{release['ID']}-{release.get('VERSION_ID', 'rolling')}-{platform.machine()}"
