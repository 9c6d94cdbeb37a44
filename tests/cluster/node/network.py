"""The bridge that joins Pods and machine, made and removed by ioctl, as bridge-utils does."""

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

__all__ = ["BRIDGES", "add_bridge", "bridges", "free_network", "remove_bridge"]

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
