"""The configuration of a node's programs, as pure functions of where its files lie."""

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "NodeLayout",
    "cni_config",
    "containerd_config",
    "kubelet_command",
    "kubelet_config",
    "scheduler_command",
]

PAUSE_IMAGE: Final = "oz.test/pause:1"
"""What keeps a Pod's namespaces; ``images.py`` makes it."""


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """A node's files, all under ``root``, and what it occupies of the machine.

    ``name`` is the node's name, and begins that of its cgroup; ``network`` is the Pods',
    whose first address the machine itself has, on the bridge.
    """

    root: Path
    name: str
    bridge: str
    network: ipaddress.IPv4Network
    kubelet_port: int

    @property
    def gateway(self) -> str:
        """The machine's address as Pods see it; the kubelet listens there too."""
        return str(self.network[1])

    @property
    def socket(self) -> Path:
        """containerd's socket."""
        return self.root / "containerd.sock"

    @property
    def containerd_config(self) -> Path:
        """containerd's configuration file."""
        return self.root / "containerd.toml"

    @property
    def cni_folder(self) -> Path:
        """Where the network's configuration lies."""
        return self.root / "cni"

    @property
    def kubelet_config(self) -> Path:
        """The kubelet's configuration file."""
        return self.root / "kubelet.json"

    @property
    def kubelet_root(self) -> Path:
        """Where the kubelet keeps the Pods' volumes."""
        return self.root / "kubelet"

    @property
    def resolv_conf(self) -> Path:
        """The name servers of Pods: none."""
        return self.root / "resolv.conf"

    def log(self, name: str) -> Path:
        """Return the log file of one process."""
        return self.root / "logs" / f"{name}.log"


def containerd_config(layout: NodeLayout, plugins: Path, snapshotter: str) -> str:
    """Return containerd's configuration; versions 1.6 to 2.x read this form of it.

    ``plugins`` is the folder of the network plugins. ``restrict_oom_score_adj``: where a
    process may not lower its oom_score_adj, runc dies of the kubelet's wish to do so.
    """
    quoted = json.dumps
    return f"""\
version = 2
root = {quoted(str(layout.root / "containerd"))}
state = {quoted(str(layout.root / "containerd-state"))}
disabled_plugins = ["io.containerd.internal.v1.opt"]  # it makes /opt/containerd

[grpc]
address = {quoted(str(layout.socket))}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {quoted(PAUSE_IMAGE)}
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = {quoted(snapshotter)}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {quoted(str(plugins))}
conf_dir = {quoted(str(layout.cni_folder))}
"""


def cni_config(layout: NodeLayout) -> Any:
    """Return the network's configuration list: one bridge, which has its address already.

    Without ``isGateway`` and ``ipMasq`` the plugin changes no setting and no packet
    filter of the machine. Pods reach the machine and one another, and nothing else.
    """
    bridge = {
        "type": "bridge",
        "bridge": layout.bridge,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(layout.network), "gateway": layout.gateway}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.root / "addresses"),
        },
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def kubelet_config(layout: NodeLayout, authority: Path) -> Any:
    """Return a KubeletConfiguration (kubelet.config.k8s.io/v1beta1).

    Whoever has a certificate of ``authority`` may ask the kubelet for everything; others
    for nothing. The times are short where a test would wait for them.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.gateway,
        "port": layout.kubelet_port,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "resolvConf": str(layout.resolv_conf),
        # services.py serves there, for who needs it. Without an address, each Pod would get a warning event.
        "clusterDNS": [layout.gateway],
        "clusterDomain": "cluster.local",
        "podLogsDir": str(layout.root / "pod-logs"),
        "volumePluginDir": str(layout.root / "volume-plugins"),
        "evictionHard": {
            "memory.available": "64Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,  # never: no registry has the images
        "serializeImagePulls": False,
        "eventRecordQPS": 0,
        "volumeStatsAggPeriod": "1s",
        "syncFrequency": "5s",
        "nodeStatusUpdateFrequency": "5s",
    }


def kubelet_command(binary: Path, layout: NodeLayout, kubeconfig: Path) -> list[str | Path]:
    """The kubelet; it has no loopback address for a node, and takes the bridge's."""
    return [
        binary,
        f"--config={layout.kubelet_config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={layout.kubelet_root}",
        f"--cert-dir={layout.root / 'kubelet-pki'}",
        f"--hostname-override={layout.name}",
        f"--node-ip={layout.gateway}",
        "--v=2",
    ]


def scheduler_command(binary: Path, kubeconfig: Path) -> Sequence[str | Path]:
    """The scheduler, alone and without a port."""
    return [
        binary,
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
    ]
