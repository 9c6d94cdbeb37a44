"""What a backend needs of the control plane beyond the public protocol. Pure.

Whether the peer is this project's control plane is certain when it has answered a handshake: it
names its capabilities there, and the public service has none. Its URL may say so before that.
"""

from typing import Final
from urllib.parse import urlsplit

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.frames import Capability

__all__ = ["ControlPlanePeer"]

_PUBLIC_DOMAIN: Final = "warp.dev"


class ControlPlanePeer:
    """The control plane that a worker connects to.

    ``public_url`` is a URL of the public service among those that the worker is configured with.
    """

    def __init__(self, *urls: str) -> None:
        self.public_url = next((url for url in urls if _is_public(url)), None)
        self._why: str | None = None

    def require_extensions(self, why: str) -> None:
        """Say that tasks need this project's control plane: from here on ``check`` refuses another."""
        self._why = why

    def check(self, capabilities: frozenset[Capability]) -> None:
        """Check what a peer named in its handshake.

        Raises:
            PreflightError: it is not the control plane that tasks need.
        """
        if self._why is not None and not capabilities:
            raise PreflightError(self._why)


def _is_public(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == _PUBLIC_DOMAIN or host.endswith(f".{_PUBLIC_DOMAIN}")
