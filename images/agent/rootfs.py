"""Lays out the agent image's file system: this interpreter, its libraries, and the agent's package.

The interpreter that goes into the image runs it, with the standard library only::

    python rootfs.py --package src/oz_agent_worker --output rootfs

::

    entrypoint.sh                       /agent/entrypoint.sh in a task
    lib/                                the C library's loader and every shared library
    python/bin/python, python/lib/...   the interpreter, its standard library, the package
    python/etc/ca-certificates.crt      trust for task images that bring none

The agent runs in any task image of this machine's architecture, also with an older C library or none:
the entry point starts the loader in the sidecar with the sidecar's libraries. It sets no environment
variables, so programs that the agent starts use the libraries of the task image. It writes no files, so
the mount may be read-only.
"""

import argparse
import importlib.machinery
import os
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY: Final = Path("python") / sys.platlibdir / VERSION

#: Large parts of the standard library that the agent never imports.
LEFT_OUT: Final = re.compile(
    r"(^|/)(__pycache__|test|tests|site-packages|dist-packages|idlelib|tkinter|turtledemo|ensurepip|lib2to3"
    r"|pydoc_data|config-[^/]*)(/|$)|(^|/)(_tkinter|_curses|_curses_panel|_sqlite3|readline|nis)\.|\.a$"
)

#: Where systems keep their certificates, tried after the interpreter's own place.
CERTIFICATES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")

#: -I: the task's PYTHON* variables are for the task's own interpreter.
ENTRY_POINT: Final = """\
#!/bin/sh
home=${0%/*}
exec "$home/lib/LOADER" --library-path "$home/lib" "$home/python/bin/python" -IB -m oz_agent_worker.agent "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Lay out the agent image's file system.")
    parser.add_argument("--package", type=Path, required=True, help="the folder of oz_agent_worker")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder, or one to create")
    options = parser.parse_args()
    lay_out(options.package, options.output)


def lay_out(package: Path, output: Path) -> None:
    """Write the file system into ``output``.

    Raises:
        SystemExit: the interpreter's libraries cannot be found.
    """
    files = _interpreter() | _agent(package)
    modules = [path for path in files if path.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))]
    libraries = _libraries([Path(sys.executable).resolve(), *modules])
    loader = next((name for name in libraries if name.startswith("ld-")), None)
    if loader is None:
        raise SystemExit(f"{sys.executable} names no dynamic loader: it must be linked with glibc")
    for path, place in files.items():
        _copy(path, output / place)
    for name, path in libraries.items():
        _copy(path, output / "lib" / name, executable=True)
    if certificates := _certificates():
        _copy(certificates, output / "python/etc/ca-certificates.crt")
    _compile(output / LIBRARY)
    entry_point = output / "entrypoint.sh"
    entry_point.write_text(ENTRY_POINT.replace("LOADER", loader))
    entry_point.chmod(0o755)


def _interpreter() -> dict[Path, Path]:
    standard = Path(sysconfig.get_path("stdlib"))
    files = {path: LIBRARY / path.relative_to(standard) for path in _below(standard)}
    # Extension modules may be in another folder than the library (PLATLIBDIR).
    dynamic = Path(sysconfig.get_config_var("DESTSHARED") or standard / "lib-dynload")
    if not dynamic.is_relative_to(standard):
        files |= {path: LIBRARY / "lib-dynload" / path.name for path in _below(dynamic)}
    return files | {Path(sys.executable).resolve(): Path("python/bin/python")}


def _agent(package: Path) -> dict[Path, Path]:
    own = [package / "__init__.py", package / "contract.py", *_below(package / "agent")]
    # In the standard library's folder: distributions differ in where their interpreter looks for packages.
    home = LIBRARY / "oz_agent_worker"
    return {path: home / path.relative_to(package) for path in own}


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LEFT_OUT.search(str(path.relative_to(folder))):
            yield path


def _libraries(programs: Iterable[Path]) -> Mapping[str, Path]:
    """Return the shared libraries of programs by name, including the dynamic loader; see ldd(1)."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    paths = [Path(match) for match in re.findall(r"(/\S+) \(0x", listed.stdout)]
    # The first host name look-up loads these; ldd does not list them.
    c_library = next((path.parent for path in paths if path.name.startswith("libc.so")), None)
    if c_library is not None:
        paths += [p for name in ("libnss_dns.so.2", "libnss_files.so.2") if (p := c_library / name).exists()]
    return {path.name: path for path in paths}


def _certificates() -> Path | None:
    usual = ssl.get_default_verify_paths().cafile
    found = (Path(path) for path in (usual, *CERTIFICATES) if path and Path(path).is_file())
    return next(found, None)


def _copy(source: Path, target: Path, *, executable: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable or os.access(source, os.X_OK) else 0o644)


def _compile(folder: Path) -> None:
    """Compile every module, because a read-only mount cannot cache bytecode."""
    for path in sorted(folder.rglob("*.py")):
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        shown = str(Path("/agent") / path.relative_to(folder.parents[2]))
        py_compile.compile(str(path), dfile=shown, doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    main()
