"""A whole cluster with one real node: the API tier, a scheduler, a kubelet and containerd.

Needs root. The node's programs run in namespaces of their own (``node/sandbox.py``), so
that the kernel ends them all, with their mounts and the Pods' networks, however this
process ends. What is outside the namespaces is a bridge, a control group and a folder:
their names hold the process ID of their owner, and the next tier removes those of the dead.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.timeouts import HANG_TIMEOUT

from . import kubeconfig
from .api_tier import ApiTier
from .errors import ApiError, ClusterError, ProvisionError, StartError
from .node import cgroups, config, images, init, network
from .node.config import NodeLayout
from .node.sandbox import Sandbox
from .packages import node_programs
from .processes import Child, free_ports
from .provision import API_TIER, binaries

__all__ = ["NODE_TIER", "NodeTier", "obstacle", "provide_node_tier", "reclaim", "remaining_resources"]

NODE_TIER: Final = (*API_TIER, "kube-scheduler", "kubelet")

FOLDER: Final = "oz-node-tier-"
"""How the names of folder, node and control group begin; the process ID of their owner follows."""


def obstacle() -> str | None:
    """Return why this machine cannot have a node, or None."""
    if sys.platform != "linux":
        return "a kubelet needs Linux"
    if os.geteuid() != 0:
        return "a kubelet needs root"
    if missing := [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]:
        return f"needs util-linux: {', '.join(missing)}"
    writable = [path for path in cgroups.hierarchies() if os.access(path, os.W_OK)]
    if not writable:
        return "no control group hierarchy can be written"
    place = Path(tempfile.gettempdir()).resolve()
    if hidden := next((path for path in init.OVERLAID if place.is_relative_to(path)), None):
        return f"the node hides {hidden}, where the temporary folder {place} is: set TMPDIR to another"
    probe = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs"]
    tried = subprocess.run([*probe, str(place)], capture_output=True, text=True, check=False)
    return f"no namespaces or mounts may be made: {tried.stderr.strip()}" if tried.returncode else None


def provide_node_tier() -> None:
    """Find, build or unpack all programs ahead of the start; minutes the first time.

    Raises:
        ProvisionError: one cannot be had.
    """
    binaries(NODE_TIER)
    node_programs()


class NodeTier:
    """A context manager; synchronous, as the API tier is. ``api`` is that, with all it offers."""

    def __init__(self) -> None:
        self.api = ApiTier()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all of it, and return when the node is ready for Pods.

        Raises:
            ProvisionError: there are no programs, or this machine cannot have a node.
            StartError: one of the processes did not come up.
        """
        if (reason := obstacle()) is not None:
            raise ProvisionError(reason)
        self._binaries, self._programs = binaries(NODE_TIER), node_programs()
        reclaim()
        with ExitStack() as stack:
            stack.enter_context(self.api)
            self._occupy(stack)
            self._start_scheduler(stack)
            self._start_containerd(stack)
            self.load(images.standard_images(self.busybox))
            self._start_kubelet(stack)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End everything and remove what is left."""
        self._stack.close()

    @property
    def gateway(self) -> str:
        """The machine's own address on the Pods' network, where a test can serve what Pods ask for."""
        return self.layout.gateway

    @property
    def node(self) -> str:
        """The node's name."""
        return self.layout.name

    @property
    def busybox(self) -> Path:
        """A BusyBox program that needs no library."""
        return self._programs["busybox"]

    def load(self, wanted: Sequence[images.Image]) -> None:
        """Give the node images, which no registry has.

        Raises:
            ClusterError: containerd does not take them.
        """
        path = self.layout.root / "images.tar"
        images.archive(wanted, path)
        try:
            self.load_archive(path)
        finally:
            path.unlink()

    def load_archive(self, path: Path) -> None:
        """Give the node the images of an archive, as ``docker save`` writes it.

        Raises:
            ClusterError: containerd does not take them.
        """
        self._ctr("images", "import", "--snapshotter", self._snapshotter, str(path))

    def kubelet_log(self) -> str:
        """The end of the kubelet's log."""
        return self._kubelet.tail(60)

    def _occupy(self, stack: ExitStack) -> None:
        """Take what outlives processes: folder, control group, bridge; then make the namespaces."""
        name = f"{FOLDER}{os.getpid()}"
        root = Path(tempfile.gettempdir()) / name
        bridge = f"{network.BRIDGES}{os.getpid()}"
        self.layout = NodeLayout(root, name, bridge, network.free_network(), free_ports(1)[0])
        self._snapshotter = _snapshotter(root.parent)
        stack.callback(_remove_folder, root)
        self._write_files()
        stack.callback(_remove_cgroups, name)
        cgroups.add_cgroup(name)
        stack.callback(network.remove_bridge, bridge)
        network.add_bridge(bridge, self.layout.network)
        self.sandbox = Sandbox(root, self.layout.log("sandbox"))
        stack.callback(self.sandbox.close)
        self.sandbox.start()

    def _write_files(self) -> None:
        layout = self.layout
        layout.root.mkdir(mode=0o755)
        layout.log("any").parent.mkdir()
        layout.cni_folder.mkdir()
        plugins = self._programs["bridge"].parent
        layout.containerd_config.write_text(config.containerd_config(layout, plugins, self._snapshotter))
        (layout.cni_folder / "10-pods.conflist").write_text(json.dumps(config.cni_config(layout)))
        kubelet = config.kubelet_config(layout, self.api.layout.authority)
        layout.kubelet_config.write_text(json.dumps(kubelet))
        layout.resolv_conf.write_text("")

    def _start_scheduler(self, stack: ExitStack) -> None:
        credentials = self._kubeconfig("system:kube-scheduler")
        command = config.scheduler_command(self._binaries["kube-scheduler"], credentials)
        self._scheduler = Child(command, self.layout.log("kube-scheduler"))
        stack.callback(self._scheduler.stop, grace=0)
        self._scheduler.start()

    def _start_containerd(self, stack: ExitStack) -> None:
        # containerd finds its shim, and the shim runc, on the path.
        folders = dict.fromkeys(str(path.parent) for path in self._programs.values())
        search = ":".join([*folders, os.environ.get("PATH", os.defpath)])
        program, file = self._programs["containerd"], self.layout.containerd_config
        command = self.sandbox.command("env", f"PATH={search}", program, "--config", file)
        self._containerd = Child(command, self.layout.log("containerd"))
        stack.callback(self._containerd.stop, grace=0)
        self._containerd.start()
        self._containerd.wait_until(self._runtime_answers, timeout=HANG_TIMEOUT)

    def _runtime_answers(self) -> bool:
        try:
            self._ctr("version")
        except ClusterError:
            return False
        return True

    def _ctr(self, *arguments: str) -> None:
        socket = str(self.layout.socket)
        command = [str(self._programs["ctr"]), "--address", socket, "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise ClusterError(f"ctr {' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")

    def _start_kubelet(self, stack: ExitStack) -> None:
        credentials = self._kubeconfig(f"system:node:{self.node}", "system:nodes")
        command = config.kubelet_command(self._binaries["kubelet"], self.layout, credentials)
        self._kubelet = Child(self.sandbox.command(*command), self.layout.log("kubelet"))
        stack.callback(self._kubelet.stop, grace=0)
        self._kubelet.start()
        self._kubelet.wait_until(self._is_ready, timeout=HANG_TIMEOUT)

    def _is_ready(self) -> bool:
        """Whether the kubelet says so, and the controllers have taken their taints off the node."""
        try:
            node: Any = self.api.client().get(f"/api/v1/nodes/{self.node}")
        except (OSError, ApiError):
            return False
        conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def _kubeconfig(self, user: str, *groups: str) -> Path:
        pair = self.api.client_certificate(user, *groups)
        entry = {
            "client-certificate-data": base64.b64encode(pair.certificate).decode(),
            "client-key-data": base64.b64encode(pair.key).decode(),
        }
        content = kubeconfig.document(self.api.server, self.api.authority, entry)
        return kubeconfig.write(self.layout.root / "kubeconfigs" / f"{user.rsplit(':', 1)[-1]}.yaml", content)


def remaining_resources(pid: int) -> list[str]:
    """Return what the tier of a process has left outside its namespaces, for people."""
    found = [f"control group {path}" for path in cgroups.cgroups(f"{FOLDER}{pid}")]
    found += [f"bridge {name}" for name in network.bridges() if name == f"{network.BRIDGES}{pid}"]
    found += [f"folder {path}" for path in Path(tempfile.gettempdir()).glob(f"{FOLDER}{pid}")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if f"{FOLDER}{pid}" in line]
    return found


def reclaim() -> None:
    """Remove what tiers have left whose process was killed; the kernel has ended their programs."""
    for owner in {*_owners(network.BRIDGES, network.bridges()), *_owners(FOLDER, _marked_names())}:
        if not Path(f"/proc/{owner}").exists():
            network.remove_bridge(f"{network.BRIDGES}{owner}")
            _remove_cgroups(f"{FOLDER}{owner}")
            _remove_folder(Path(tempfile.gettempdir()) / f"{FOLDER}{owner}")


def _marked_names() -> Iterator[str]:
    yield from (path.name for path in cgroups.cgroups(FOLDER))
    yield from (path.name for path in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"))


def _owners(prefix: str, names: Sequence[str] | Iterator[str]) -> set[int]:
    ids = (name.removeprefix(prefix) for name in names)
    return {int(text) for text in ids if text.isdigit()}


def _remove_cgroups(name: str) -> None:
    for group in cgroups.cgroups(name):
        if group.name == name:
            cgroups.remove_cgroup(group)


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise StartError(f"{folder} cannot be removed: {', '.join(map(str, list(folder.rglob('*'))[:5]))}")


def _snapshotter(folder: Path) -> str:
    """Choose how containerd stacks layers: an overlay cannot write to another overlay."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    kinds = {fields[1]: fields[2] for fields in map(str.split, mounts)}
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if str(path) in kinds)
    return "native" if kinds[str(place)] == "overlay" else "overlayfs"
