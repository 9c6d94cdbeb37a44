"""The real agent as an image: this interpreter, its standard library, and the agent's package.

It runs in any task image of this machine's architecture, also one without a C library: the
entry point calls the dynamic loader by its path in the sidecar, with the sidecar's libraries.
"""

import importlib.machinery
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import oz_agent_worker
from tests.cluster.node.images import File, Image, Link, layer

__all__ = ["PYTHON_AGENT_IMAGE", "agent_image"]

PYTHON_AGENT_IMAGE: Final = "oz.test/agent:1"

# Of the standard library: what an agent never imports, and is large.
LEFT_OUT: Final = re.compile(
    r"(^|/)(__pycache__|test|tests|site-packages|dist-packages|idlelib|tkinter|turtledemo|ensurepip|lib2to3"
    r"|pydoc_data|config-[^/]*)(/|$)|(^|/)(_tkinter|_curses|_curses_panel|_sqlite3|readline|nis)\.|\.a$"
)

VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"

ENTRY_POINT: Final = """\
#!/bin/sh
home=${0%/*}
PYTHONHOME=$home/python PYTHONPATH=$home/app PYTHONDONTWRITEBYTECODE=1 \\
  exec "$home/lib/LOADER" --library-path "$home/lib" "$home/python/bin/python" -m oz_agent_worker.agent "$@"
"""


def agent_image(base: bytes) -> Image:
    """Return the image; ``base`` is a layer with a shell and ``cp``, which a sidecar needs."""
    return Image(PYTHON_AGENT_IMAGE, [base, layer(_entries())], ("/entrypoint.sh",))


def _entries() -> dict[str, File | Link]:
    python = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    package = Path(oz_agent_worker.__file__).parent
    library = f"python/{sys.platlibdir}/{VERSION}"
    files = {path: f"{library}/{path.relative_to(standard)}" for path in _below(standard)}
    own = [package / "__init__.py", *_below(package / "agent")]
    files |= {path: f"app/oz_agent_worker/{path.relative_to(package)}" for path in own}
    files[python] = "python/bin/python"
    modules = [path for path in files if path.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))]
    libraries = _libraries([python, *modules])
    loader = next(path for path in libraries if path.name.startswith("ld-"))
    entries: dict[str, File | Link] = {
        place: File(path.read_bytes(), 0o755 if place == "python/bin/python" else 0o644)
        for path, place in files.items()
    }
    entries |= {f"lib/{path.name}": File(path.read_bytes(), 0o755) for path in libraries}
    entries["entrypoint.sh"] = File(ENTRY_POINT.replace("LOADER", loader.name).encode(), 0o755)
    return entries


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LEFT_OUT.search(str(path.relative_to(folder))):
            yield path


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """Return the shared libraries that programs need, the dynamic loader among them; see ldd(1)."""
    found: dict[str, Path] = {}
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        if match := re.search(r"(/\S+) \(0x", line):
            path = Path(match[1])
            found[path.name] = path
    return list(found.values())
