"""The settings of a control plane."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["ControlPlaneSettings", "default_database_url", "describe_exposure", "is_loopback", "url_of"]

MIB: Final = 1024 * 1024


def default_database_url(environ: Mapping[str, str] = os.environ) -> str:
    """The URL of a SQLite file in the user's state directory (XDG Base Directory Specification)."""
    state_home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return f"sqlite:///{Path(state_home) / 'oz-agent-worker' / 'control-plane.db'}"


@dataclass(frozen=True, kw_only=True)
class ControlPlaneSettings:
    """Settings of one control plane process."""

    host: str = "127.0.0.1"
    """Address to listen on: a host name or an IP address."""
    port: int = 8080
    """TCP port to listen on; 0 picks a free one."""
    database_url: str = field(default_factory=default_database_url)
    """SQLAlchemy URL. SQLite needs a file, not ``:memory:``."""
    public_url: str | None = None
    """Base URL for agents and workers on other machines; by default the address to listen on.

    Agents get it from their worker (``--server-root-url``).
    """
    claim_timeout: float = 30.0
    """Seconds that a worker has to claim a run that it was sent.

    A public worker claims before it starts, so its unclaimed run returns to the queue. For any
    other worker a lease begins.
    """
    worker_grace: float = 600.0
    """Length of a lease: seconds that a worker may be disconnected, or leave a run unanswered.

    A public worker that may have connected again has six times as long to report a run's end.
    """
    max_starts: int = 5
    """Most starts of a run that is safe to retry: the first one, and one after each lost worker."""
    default_sidecar_image: str | None = None
    """Agent image of every assignment (``sidecar_image``)."""
    default_docker_image: str | None = None
    """Task image of every assignment (``docker_image``); None: the worker's default."""
    log_retention_bytes: int = 16 * MIB
    """Bytes of output that are kept for one run: the last ones."""


def is_loopback(host: str) -> bool:
    """Whether ``host`` is reachable from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens on ``host``."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def describe_exposure(settings: ControlPlaneSettings) -> str:
    """Sentences that say who can reach the address to listen on."""
    if is_loopback(settings.host):
        return f"Listening on {settings.host}: only programs on this machine can reach it."
    where = "every network of this machine" if settings.host in ("", "0.0.0.0", "::") else settings.host  # noqa: S104
    return (
        f"Listening on {where}: anyone who can reach it and has a key can submit runs and read them. "
        "It does not use TLS, so keys and prompts cross the network unencrypted: use a TLS proxy."
    )
