"""The cluster's binaries: found in ``KUBEBUILDER_ASSETS`` or in the cache, else built with Go, once.

``python -m tests.cluster.provision [--print] [NAME…]`` does it ahead of the tests.
The versions are in ``kubernetes/go.mod`` alone.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from .cache import cache_root, locked, progress
from .errors import ProvisionError
from .golang import GoVersion, find_go, parse_go_version

__all__ = ["API_TIER", "binaries", "kubernetes_version", "main"]

MODULE: Final = Path(__file__).parent / "kubernetes"

API_TIER: Final = ("etcd", "kube-apiserver", "kube-controller-manager")
#: What the tests without a node use.
DEFAULT: Final = (*API_TIER, "crilog")

PACKAGES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "crilog": "./crilog",
}

# Wall time from nothing on two cores, in this order: what is built later finds its libraries compiled.
BUILD_TIME: Final = {
    "etcd": "about 1 min",
    "kube-apiserver": "about 5 min",
    "kube-controller-manager": "about 1 min",
    "kube-scheduler": "under 1 min",
    "kubelet": "under 1 min",
    "crilog": "seconds, or under 1 min alone",
}


def binaries(names: Iterable[str] = API_TIER, environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the path of each named binary, building what is not there.

    Raises:
        ProvisionError: a name is unknown, or a binary cannot be built.
    """
    wanted = list(names)
    if unknown := [name for name in wanted if name not in PACKAGES]:
        raise ProvisionError(f"unknown binary {unknown[0]!r}; known are {', '.join(PACKAGES)}")
    assets = environ.get("KUBEBUILDER_ASSETS")
    folder = cache_root(environ) / "kubernetes" / _cache_key()
    found: dict[str, Path] = {}
    for name in wanted:
        cached = folder / _file_name(name)
        places = [*([Path(assets) / name] if assets else []), cached]
        # setup-envtest leaves etcd and kube-apiserver alone, so each binary is looked for by itself.
        path = next((place for place in places if os.access(place, os.X_OK)), None)
        try:
            found[name] = path or _built(name, cached, cache_root(environ))
        except OSError as error:
            raise ProvisionError(f"cannot build {name} into {folder}: {error}") from error
    return found


def kubernetes_version() -> str:
    """Return the version that go.mod requires, such as ``v1.35.4``."""
    return _required(r"k8s\.io/kubernetes (v\d+\.\d+\.\d+)")


def _go_line() -> GoVersion:
    """Return the oldest Go that go.mod allows."""
    version = parse_go_version(_required(r"(?m)^go (\S+)$"))
    if version is None:
        raise ProvisionError(f"{MODULE / 'go.mod'}: its go line holds no version")
    return version


def _required(pattern: str) -> str:
    found = re.search(pattern, (MODULE / "go.mod").read_text())
    if found is None:
        raise ProvisionError(f"{MODULE / 'go.mod'} has nothing like {pattern!r}")
    return found[1]


def _cache_key() -> str:
    """Name the cache folder after all that decides what a build gives."""
    digest = hashlib.sha256()
    for part in (
        (MODULE / "go.mod").read_bytes(),
        (MODULE / "go.sum").read_bytes(),
        _linker_flags().encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return f"{kubernetes_version()}-{digest.hexdigest()[:12]}"


def _linker_flags() -> str:
    """Return flags that strip the binary and stamp its version.

    Unstamped, a server calls itself ``v0.0.0-master+$Format:%H$``, which clients refuse to parse.
    """
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{k}={v}" for k, v in stamps.items())])


def _file_name(name: str) -> str:
    """Return a binary's name in the cache: one that is built from sources of ours is named after those."""
    sources = sorted((MODULE / PACKAGES[name]).glob("*.go")) if PACKAGES[name].startswith("./") else []
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return f"{name}-{digest.hexdigest()[:12]}" if sources else name


def _built(name: str, binary: Path, cache: Path) -> Path:
    """Build one binary into the cache, unless another process has done so while this one waited."""
    folder = binary.parent
    with locked(folder):
        if binary.exists():
            return binary
        go = find_go(_go_line(), cache)
        progress(f"building {name} for Kubernetes {kubernetes_version()} ({BUILD_TIME[name]}, once) …")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
            _go_build(go, PACKAGES[name], Path(scratch) / name)
            (Path(scratch) / name).rename(binary)
        progress(f"built {binary} in {time.monotonic() - started:.0f} s")
    return binary


def _go_build(go: Path, package: str, output: Path) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    environment.pop("GOROOT", None)  # the shell's may belong to another toolchain than the one found
    command = [str(go), "build", "-trimpath", f"-ldflags={_linker_flags()}", "-o", str(output), package]
    done = subprocess.run(
        command, cwd=MODULE, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise ProvisionError(f"go build {package} failed: {done.stderr.strip()[-1500:]}")


def main(arguments: list[str] | None = None) -> int:
    """Provide the binaries named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.provision", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--print", action="store_true", help="print the paths on stdout, one a line")
    options = parser.parse_args(arguments)
    try:
        found = binaries(options.names or DEFAULT)
    except ProvisionError as error:
        progress(f"provision: {error}")
        return 1
    if options.print:
        print("\n".join(str(path) for path in found.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
