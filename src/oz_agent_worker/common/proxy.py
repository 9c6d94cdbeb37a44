"""Which HTTP proxy the requests to an address go through, if any. Pure.

The rules are those of kubectl and of every client-go program (Go's
``golang.org/x/net/http/httpproxy``), so that what reaches a cluster with kubectl reaches it here:

* ``HTTPS_PROXY`` is for ``https`` and ``wss``, ``HTTP_PROXY`` for ``http`` and ``ws``; the
  lower-case name counts where the upper-case one is unset or empty.
* ``localhost`` and loopback addresses are always connected to directly.
* ``NO_PROXY`` is a comma-separated list of other exceptions: ``*``, an IP address, a CIDR block,
  a host with its subdomains, or only its subdomains (``.host``, ``*.host``). All but blocks may
  end with ``:port``.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from oz_agent_worker.errors import ConfigError

from .secret import Secret

__all__ = ["Proxy", "ProxyError", "parse_proxy", "proxy_for"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_VARIABLES: Final[Mapping[str, str]] = {
    "https": "HTTPS_PROXY",
    "wss": "HTTPS_PROXY",
    "http": "HTTP_PROXY",
    "ws": "HTTP_PROXY",
}
_PORTS: Final[Mapping[str, int]] = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class ProxyError(ConfigError):
    """A malformed proxy address. The text names the setting and never its value: it may hold a password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: ``url`` is its address without the login, ``source`` the setting that names it."""

    url: str
    source: str
    user: Secret | None = None
    password: Secret | None = None

    def __str__(self) -> str:
        return f"the proxy {self.url} ({self.source})"


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Choose the proxy for an ``http``, ``https``, ``ws`` or ``wss`` address; ``None``: connect directly.

    A malformed address has no proxy: connecting to it gives the error.

    Raises:
        ProxyError: the variable for this address is not the address of a proxy.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not host or not port or parts.scheme not in _VARIABLES:
        return None
    name, value = _variable(_VARIABLES[parts.scheme], environ)
    _, exceptions = _variable("NO_PROXY", environ)
    if not value or _is_direct(_ascii(host), port, exceptions):
        return None
    return parse_proxy(value, name)


def parse_proxy(text: str, source: str) -> Proxy:
    """Read a proxy's address, such as ``http://user:password@proxy:3128``; without a scheme it is ``http``.

    Raises:
        ProxyError: it is not the address of an HTTP proxy. ``source`` names the setting in the error.
    """
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host and parts.scheme.startswith("socks"):
        raise ProxyError(
            f"{source} must be the address of an HTTP proxy: it names a SOCKS proxy, which this program does"
            " not speak to. Use an http or https proxy, or a tunnel of your own, such as `ssh -L`"
        )
    # A password with a bare "/", "?" or "#" would be cut there, and its beginning taken for the host.
    if (
        not host
        or parts.scheme not in ("http", "https")
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or any(character.isspace() for character in text)
        or ":" in unquote(parts.username or "")  # RFC 7617, section 2
    ):
        raise ProxyError(
            f"{source} must be the address of an HTTP proxy, such as http://proxy.example.com:3128"
            " (in a login, percent-encode all characters but letters and digits)"
        )
    return Proxy(
        f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port or _PORTS[parts.scheme]}",
        source,
        Secret(unquote(parts.username)) if parts.username else None,
        Secret(unquote(parts.password)) if parts.password else None,
    )


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable's name, in upper or lower case, and its value; the first that is not empty."""
    return next(((n, environ[n]) for n in (name, name.lower()) if environ.get(n)), (name, ""))


def _is_direct(host: str, port: int, exceptions: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in exceptions.split(","))
    return any(_covers(entry, host, address, port) for entry in entries if entry)


def _covers(entry: str, host: str, address: _Address | None, port: int) -> bool:
    """Return whether one entry of NO_PROXY matches this host."""
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_in(address, entry)
    name, wanted_port = _split_port(entry)
    if not name or wanted_port not in ("", str(port)):
        return False
    wanted = _address(name)
    if wanted is not None or address is not None:
        return wanted == address
    name = _ascii(name[1:] if name.startswith("*.") else name)
    return host == name or host.endswith(name if name.startswith(".") else f".{name}")


def _split_port(entry: str) -> tuple[str, str]:
    """Split ``host:port``; an IPv6 address with a port is in brackets (RFC 3986, 3.2.2)."""
    host, colon, port = entry.rpartition(":")
    if not colon or entry.endswith("]") or (":" in host and not host.endswith("]")):
        host, port = entry, ""
    return host.removeprefix("[").removesuffix("]"), port


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(address: _Address, block: str) -> bool:
    try:
        return address in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False


def _ascii(host: str) -> str:
    """Return a host name in its ASCII form (IDNA)."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
