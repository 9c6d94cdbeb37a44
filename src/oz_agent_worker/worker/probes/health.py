"""Whether the worker lives (``/healthz``) and can be given work (``/readyz``).

That an answer comes at all shows that the event loop turns. A control plane or an API
server that cannot be reached makes nobody healthier by a restart of the worker, so it
never fails ``/healthz``: only what runs inside the process does.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from oz_agent_worker.worker.events import WatchStatus

from .server import Response, Routes

__all__ = ["Check", "Health", "liveness", "readiness"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what was seen."""

    name: str
    ok: bool
    detail: str


def liveness(watches: Sequence[WatchStatus]) -> list[Check]:
    """Judge whether the process does what it should; an answer implies a turning event loop."""
    return [Check("event_loop", True, "turns"), *map(_watch_check, watches)]


def readiness(*, preflight_passed: bool, connected: bool, stopping: bool) -> list[Check]:
    """Judge whether tasks reach the worker and can be run by it."""
    preflight = "passed" if preflight_passed else "the backend is still starting"
    connection = "connected to the control plane" if connected else "not connected to the control plane"
    return [
        Check("preflight", preflight_passed, preflight),
        Check("connection", connected, connection),
        Check("accepting", not stopping, "shutting down" if stopping else "takes tasks"),
    ]


def _watch_check(watch: WatchStatus) -> Check:
    name = f"watch_{watch.resource}"
    if not watch.running:
        return Check(name, False, "its task has ended")
    if not watch.alive:
        return Check(
            name, False, f"did nothing for {watch.idle_for:.0f} s (its limit is {watch.idle_limit:.0f} s)"
        )
    return Check(name, True, f"last heard {watch.unheard_for:.0f} s ago")


class Health:
    """Answers the probes. Its owner says when ``preflight_passed`` and when it is ``stopping``."""

    def __init__(
        self, *, connected: Callable[[], bool], watches: Callable[[], Sequence[WatchStatus]]
    ) -> None:
        self.preflight_passed = False
        self.stopping = False
        self._connected = connected
        self._watches = watches

    def routes(self) -> Routes:
        """The paths that are answered."""
        return {"/healthz": self.healthz, "/readyz": self.readyz}

    def healthz(self) -> Response:
        """200 while the process does what it should, else 503."""
        return _response(liveness(self._watches()))

    def readyz(self) -> Response:
        """200 while tasks reach the worker and can be run, else 503."""
        return _response(
            readiness(
                preflight_passed=self.preflight_passed, connected=self._connected(), stopping=self.stopping
            )
        )


def _response(checks: Sequence[Check]) -> Response:
    well = all(check.ok for check in checks)
    document = {
        "status": "ok" if well else "unavailable",
        "failing": [f"{check.name}: {check.detail}" for check in checks if not check.ok],
        "checks": [asdict(check) for check in checks],
    }
    return Response(200 if well else 503, "application/json", json.dumps(document).encode() + b"\n")
