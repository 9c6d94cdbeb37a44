"""What the HTTP handlers share."""

from collections.abc import Callable
from dataclasses import dataclass

from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.times import Clock

from .connections import Connections
from .frame_handler import FrameHandler
from .lease_keeper import LeaseKeeper
from .subscribers import Subscribers

__all__ = ["Services"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of one control plane; ``wake`` makes the dispatcher look at the queue."""

    settings: ControlPlaneSettings
    database: Database
    connections: Connections
    lease_keeper: LeaseKeeper
    subscribers: Subscribers
    frame_handler: FrameHandler
    clock: Clock
    wake: Callable[[], None]
