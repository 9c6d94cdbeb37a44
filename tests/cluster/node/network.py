"""The bridge that joins Pods and machine, made and removed by ioctl, as bridge-utils does; its routes."""

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

from tests.cluster.errors import ClusterError

__all__ = ["BRIDGES", "add_bridge", "add_local_range", "bridges", "free_network", "remove_bridge"]

BRIDGES: Final = "oznode"
"""How a bridge's name begins; the process ID of its owner follows."""

# Shared address space (RFC 6598): neither the Internet's nor, mostly, a private network's.
SPACE: Final = ipaddress.IPv4Network("100.64.0.0/10")

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCSIFADDR, SIOCSIFNETMASK = 0x8916, 0x891C
SIOCBRADDBR, SIOCBRDELBR = 0x89A0, 0x89A1
IFF_UP: Final = 1
INTERFACES: Final = Path("/sys/class/net")

# linux/netlink.h, linux/rtnetlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x400, 0x800
NLMSG_ERROR, RTM_NEWROUTE = 2, 24
RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL = 255, 4, 254, 2
RTA_DST, RTA_OIF = 1, 4
NLMSG_HEADER: Final = struct.Struct("=IHHII")


def bridges() -> list[str]:
    """Return the names of all bridges that such nodes have, or had and left."""
    return sorted(entry.name for entry in INTERFACES.glob(f"{BRIDGES}*"))


def free_network(random: Random | None = None) -> ipaddress.IPv4Network:
    """Return a /24 that no route of the machine touches.

    Raises:
        ClusterError: none was found.
    """
    random = random or Random()
    taken = list(_routes(Path("/proc/net/route").read_text().splitlines()[1:]))
    for _ in range(100):
        found = ipaddress.IPv4Network((int(SPACE.network_address) + (random.randrange(1 << 14) << 8), 24))
        if not any(found.overlaps(route) for route in taken):
            return found
    raise ClusterError(f"no free network in {SPACE}")


def _routes(rows: Iterable[str]) -> Iterator[ipaddress.IPv4Network]:
    """Read /proc/net/route: addresses in hex, in the machine's byte order; the default route is left out."""
    for row in rows:
        columns = row.split()
        address, mask = (struct.pack("=I", int(columns[n], 16)) for n in (1, 7))
        length = int.from_bytes(mask, "big").bit_count()
        if length:
            yield ipaddress.IPv4Network((address, length), strict=False)


def add_bridge(name: str, network: ipaddress.IPv4Network) -> None:
    """Make a bridge that is up and has the network's first address."""
    with _control() as control:
        fcntl.ioctl(control, SIOCBRADDBR, name.encode() + b"\0")
        _set_address(control, name, SIOCSIFADDR, network[1])
        _set_address(control, name, SIOCSIFNETMASK, network.netmask)
        _set_up(control, name, up=True)


def add_local_range(name: str, network: ipaddress.IPv4Network) -> None:
    """Make every address of a network the machine's own; it goes with the bridge (rtnetlink(7)).

    Other bridges may have the same: what comes over one is for sockets bound to it.

    Raises:
        OSError: the kernel refuses it.
    """
    attributes = struct.pack("=HH4s", 8, RTA_DST, network.network_address.packed)
    attributes += struct.pack("=HHI", 8, RTA_OIF, socket.if_nametoindex(name))
    kind = (RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL)
    route = struct.pack("=8BI", socket.AF_INET, network.prefixlen, 0, 0, *kind, 0) + attributes
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.send(NLMSG_HEADER.pack(NLMSG_HEADER.size + len(route), RTM_NEWROUTE, flags, 1, 0) + route)
        answer = link.recv(4096)
    kind_of_answer, (error,) = NLMSG_HEADER.unpack_from(answer)[1], struct.unpack_from("=i", answer, 16)
    if kind_of_answer != NLMSG_ERROR or error:
        raise OSError(-error, f"{os.strerror(-error)}: {network} on {name}")


def remove_bridge(name: str) -> None:
    """Remove a bridge; a name that is not there is no error."""
    if not os.path.lexists(INTERFACES / name):
        return
    with _control() as control:
        _set_up(control, name, up=False)
        fcntl.ioctl(control, SIOCBRDELBR, name.encode() + b"\0")


@contextmanager
def _control() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        yield control


def _set_address(control: socket.socket, name: str, request: int, address: ipaddress.IPv4Address) -> None:
    fcntl.ioctl(control, request, struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, address.packed))


def _set_up(control: socket.socket, name: str, *, up: bool) -> None:
    answer = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
    (flags,) = struct.unpack_from("H", answer, 16)
    flags = flags | IFF_UP if up else flags & ~IFF_UP
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags))
