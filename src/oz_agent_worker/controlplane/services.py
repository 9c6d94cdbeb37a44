"""What the HTTP handlers share."""

from collections.abc import Callable
from dataclasses import dataclass

from .attendance import Attendance
from .followers import Followers
from .hub import Hub
from .intake import Intake
from .settings import ControlPlaneSettings
from .store.database import Database
from .times import Clock

__all__ = ["Services"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of one control plane; ``wake`` makes the dispatcher look at the queue."""

    settings: ControlPlaneSettings
    database: Database
    hub: Hub
    attendance: Attendance
    followers: Followers
    intake: Intake
    clock: Clock
    wake: Callable[[], None]
