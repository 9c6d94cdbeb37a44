"""What the parts of one control plane share."""

import asyncio
from dataclasses import dataclass, field

from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.times import Clock

from .connections import Connections
from .subscribers import Subscribers

__all__ = ["Services"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """Settings, store, clock and the state in memory of one control plane.

    The dispatcher waits for ``woken``.
    """

    settings: ControlPlaneSettings
    database: Database
    clock: Clock
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    connections: Connections = field(default_factory=Connections)
    subscribers: Subscribers = field(default_factory=Subscribers)

    def wake(self) -> None:
        """Make the dispatcher look for work."""
        self.woken.set()
