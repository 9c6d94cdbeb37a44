"""What a node reads of its machine: routes and control groups."""

import ipaddress
from pathlib import Path

from tests.cluster.node.cgroups import cgroups, hierarchies, remove_cgroup
from tests.cluster.node.network import _routes

# proc_pid_mountinfo(5): version 1 beside version 2, as systemd's hybrid mode has them.
MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 22 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 22 0:29 / /proc rw - proc proc rw
"""

ROUTES = """\
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_all_hierarchies_are_found() -> None:
    assert list(hierarchies(MOUNTS)) == [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/unified")]


def test_a_machine_without_control_groups_has_none() -> None:
    assert list(hierarchies("")) == []
    assert cgroups("no-group-has-this-name-") == []


def test_a_group_is_removed_from_its_leaves_up(tmp_path: Path) -> None:
    group = tmp_path / "node"
    (group / "pods" / "pod1" / "container").mkdir(parents=True)
    remove_cgroup(group)
    assert not group.exists()


def test_routes_are_read_but_for_the_default() -> None:
    assert list(_routes(ROUTES.splitlines())) == [ipaddress.IPv4Network("192.0.2.0/24")]
