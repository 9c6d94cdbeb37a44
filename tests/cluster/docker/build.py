"""The project's images, built by a real engine from base images of this machine."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import oz_agent_worker
from tests.cluster.cache import cache_root, locked, progress
from tests.cluster.errors import ProvisionError

from .bases import busybox_tree, debian_tree
from .engine import DockerEngine

__all__ = ["AGENT_IMAGE", "BASE_IMAGE", "SHELL_IMAGE", "WORKER_IMAGE", "build_images", "import_bases"]

ROOT: Final = Path(__file__).parents[3]

BASE_IMAGE: Final = "oz.test/debian-python:1"
SHELL_IMAGE: Final = "oz.test/busybox:1"
WORKER_IMAGE: Final = "oz.test/oz-agent-worker:test"
AGENT_IMAGE: Final = "oz.test/oz-agent:test"

#: What .dockerignore lets into the build context.
CONTEXT: Final = ("LICENSE", "NOTICE", "README.md", "pyproject.toml", "src", "images")
LOCKS: Final = ("images/worker/requirements.lock", "images/build.lock")


def import_bases(engine: DockerEngine) -> None:
    """Give the engine the two base images.

    Raises:
        ProvisionError: one cannot be made.
        EngineError: the engine does not take it.
    """
    engine.run("import", "-", BASE_IMAGE, stdin=debian_tree(engine.programs["debootstrap"]))
    tree = busybox_tree(engine.programs["busybox"], engine.folder / "busybox.tar")
    engine.run("import", "-", SHELL_IMAGE, stdin=tree)


def build_images(engine: DockerEngine) -> None:
    """Build the worker's and the agent's image, without a network: nothing can come in unseen.

    Raises:
        ProvisionError: the packages of the lock cannot be had.
        EngineError: a build failed.
    """
    wheels = _wheels()
    with tempfile.TemporaryDirectory(prefix="oz-context-") as folder:
        context = Path(folder)
        for name in CONTEXT:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, context / name)
        shutil.copytree(wheels, context / "images" / "wheels")
        common = ["--network=none", f"--build-arg=BASE_IMAGE={BASE_IMAGE}"]
        common += [f"--build-arg=VERSION={oz_agent_worker.__version__}", "--build-arg=REVISION=test"]
        _build(engine, context, "worker", WORKER_IMAGE, [*common, "--build-arg=WHEELS=images/wheels"])
        _build(engine, context, "agent", AGENT_IMAGE, [*common, f"--build-arg=SHELL_IMAGE={SHELL_IMAGE}"])


def _build(engine: DockerEngine, context: Path, name: str, image: str, options: list[str]) -> None:
    file = context / "images" / name / "Dockerfile"
    engine.run("build", "--quiet", f"--file={file}", f"--tag={image}", *options, context)


def _wheels() -> Path:
    """The packages of the images' locks, checked by hash; fetched when the locks change."""
    folder = cache_root() / "wheels"
    wanted = "\n".join((ROOT / lock).read_text() for lock in LOCKS)
    with locked(folder):
        stamp = folder / "locks.txt"
        if not stamp.exists() or stamp.read_text() != wanted:
            progress("fetching the packages of the images")
            shutil.rmtree(folder / "files", ignore_errors=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            for lock in LOCKS:
                command += ["--requirement", str(ROOT / lock)]
            done = subprocess.run(
                [*command, "--dest", str(folder / "files")], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise ProvisionError(f"the packages of the images cannot be fetched: {done.stderr[-1000:]}")
            stamp.write_text(wanted)
    return folder / "files"
