"""What an operator chooses about a control plane."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["ControlPlaneSettings", "default_database_url", "describe_exposure", "is_loopback", "url_of"]

MIB: Final = 1024 * 1024


def default_database_url(environ: Mapping[str, str] = os.environ) -> str:
    """A file in the user's state directory (XDG Base Directory Specification)."""
    state_home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return f"sqlite:///{Path(state_home) / 'oz-agent-worker' / 'control-plane.db'}"


@dataclass(frozen=True, kw_only=True)
class ControlPlaneSettings:
    """Settings of one control plane process."""

    host: str = "127.0.0.1"
    """Address to listen on: a name or an IP address."""
    port: int = 8080
    """TCP port to listen on; 0 takes a free one."""
    database_url: str = field(default_factory=default_database_url)
    """SQLAlchemy URL. SQLite needs a file, not ``:memory:``."""
    public_url: str | None = None
    """Base URL under which agents and workers elsewhere reach it; by default the address listened on.

    It is ``ControlPlane.public_url``. Agents hear it from their worker (``--server-root-url``).
    """
    claim_timeout: float = 30.0
    """Seconds in which a worker claims a run, else it is looked after.

    A public worker claims before it starts, so what it left unclaimed goes back to the queue.
    """
    worker_grace: float = 600.0
    """Seconds for which a worker may stay away, or leave a run unanswered, before the run is given up."""
    max_starts: int = 5
    """Starts of a run that is marked safe to retry, at most: the first one, and those after a lost worker."""
    default_sidecar_image: str | None = None
    """Agent image of every assignment (``sidecar_image``)."""
    default_docker_image: str | None = None
    """Task image of every assignment (``docker_image``); none: the worker's default."""
    log_retention_bytes: int = 16 * MIB
    """Output kept for one run, in bytes; the last part wins."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """The URL under which this machine reaches a server that listens on ``host``."""
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def describe_exposure(settings: ControlPlaneSettings) -> str:
    """Say in a sentence or two what the chosen address means for who can reach it."""
    if is_loopback(settings.host):
        return f"Listening on {settings.host}: only programs on this machine can reach it."
    where = "every network of this machine" if settings.host in ("", "0.0.0.0", "::") else settings.host  # noqa: S104
    return (
        f"Listening on {where}: anyone who can reach it and has a key can submit runs and read them. "
        "There is no TLS here, so keys and prompts cross the network in clear: put a TLS proxy before it."
    )
