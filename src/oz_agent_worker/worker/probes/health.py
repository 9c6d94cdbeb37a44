"""Whether the worker is alive (``/healthz``) and can be given work (``/readyz``).

Any answer shows that the event loop runs. ``/healthz`` fails only for what a restart of the
process can repair: a control plane or an API server that cannot be reached does not fail it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from oz_agent_worker.worker.events import WatchStatus

from .server import Response, Routes

__all__ = ["Health", "HealthCheck", "liveness", "readiness"]

#: For how many seconds a watch may fail before the worker is not ready: an API server restarts in less.
_OUTAGE: Final = 60.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One condition that was checked, and what was found."""

    name: str
    ok: bool
    detail: str


def liveness(watches: Sequence[WatchStatus]) -> list[HealthCheck]:
    """Check that the process works; an answer implies that its event loop runs."""
    return [HealthCheck("event_loop", True, "runs"), *map(_check_watch, watches)]


def readiness(
    watches: Sequence[WatchStatus], *, preflight_passed: bool, connected: bool, stopping: bool
) -> list[HealthCheck]:
    """Check that the worker receives tasks, can run them, and sees what becomes of them."""
    preflight = "passed" if preflight_passed else "the backend is still starting"
    connection = "connected to the control plane" if connected else "not connected to the control plane"
    return [
        HealthCheck("preflight", preflight_passed, preflight),
        HealthCheck("connection", connected, connection),
        HealthCheck("accepting", not stopping, "shutting down" if stopping else "accepts tasks"),
        *map(_check_outage, watches),
    ]


def _check_outage(watch: WatchStatus) -> HealthCheck:
    name, lasting = f"watch_{watch.resource}", watch.failing_for >= _OUTAGE
    detail = (
        f"has failed for {watch.failing_for:.0f} s: {watch.problem}" if lasting else "reaches the API server"
    )
    return HealthCheck(name, not lasting, detail)


def _check_watch(watch: WatchStatus) -> HealthCheck:
    name = f"watch_{watch.resource}"
    if not watch.running:
        return HealthCheck(name, False, "its task has ended")
    if not watch.alive:
        return HealthCheck(
            name, False, f"did nothing for {watch.idle_for:.0f} s (its limit is {watch.idle_limit:.0f} s)"
        )
    return HealthCheck(name, True, f"last received {watch.silent_for:.0f} s ago")


class Health:
    """Answers the probes. Its owner sets ``preflight_passed`` and ``stopping``."""

    def __init__(
        self, *, connected: Callable[[], bool], watches: Callable[[], Sequence[WatchStatus]]
    ) -> None:
        self.preflight_passed = False
        self.stopping = False
        self._connected = connected
        self._watches = watches

    def routes(self) -> Routes:
        """Return the paths that it answers."""
        return {"/healthz": self.healthz, "/readyz": self.readyz}

    def healthz(self) -> Response:
        """200 while the process works, else 503."""
        return _response(liveness(self._watches()))

    def readyz(self) -> Response:
        """200 while the worker receives tasks and can run them, else 503."""
        return _response(
            readiness(
                self._watches(),
                preflight_passed=self.preflight_passed,
                connected=self._connected(),
                stopping=self.stopping,
            )
        )


def _response(checks: Sequence[HealthCheck]) -> Response:
    healthy = all(check.ok for check in checks)
    document = {
        "status": "ok" if healthy else "unavailable",
        "failing": [f"{check.name}: {check.detail}" for check in checks if not check.ok],
        "checks": [asdict(check) for check in checks],
    }
    return Response(200 if healthy else 503, "application/json", json.dumps(document).encode() + b"\n")
