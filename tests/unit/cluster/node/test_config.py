"""The configuration of a node's programs."""

import ipaddress
import tomllib
from pathlib import Path

from tests.cluster.node import config
from tests.cluster.node.config import NodeLayout

LAYOUT = NodeLayout(Path("/t"), "node-1", "bridge1", ipaddress.IPv4Network("100.64.7.0/24"), 20_250)


def test_the_kubelet_and_the_pods_use_the_bridges_address() -> None:
    kubelet = config.kubelet_config(LAYOUT, Path("/ca.crt"))
    assert kubelet["address"] == LAYOUT.gateway == "100.64.7.1"
    (bridge,) = config.cni_config(LAYOUT)["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "100.64.7.0/24", "gateway": "100.64.7.1"}]]
    assert "--node-ip=100.64.7.1" in config.kubelet_command(Path("/kubelet"), LAYOUT, Path("/k.yaml"))


def test_the_kubelet_answers_to_certificates_alone() -> None:
    kubelet = config.kubelet_config(LAYOUT, Path("/ca.crt"))
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authentication"]["x509"] == {"clientCAFile": "/ca.crt"}


def test_the_network_changes_nothing_of_the_machine() -> None:
    (bridge,) = config.cni_config(LAYOUT)["plugins"]
    assert not {"isGateway", "isDefaultGateway", "ipMasq"} & bridge.keys()


def test_containerds_configuration_is_toml_whatever_the_paths_hold() -> None:
    layout = NodeLayout(Path('/a "b" c'), "node-1", "bridge1", LAYOUT.network, 1)
    read = tomllib.loads(config.containerd_config(layout, Path("/cni"), "native"))
    assert read["grpc"]["address"] == '/a "b" c/containerd.sock'
    cri = read["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["cni"]["bin_dir"] == "/cni"
