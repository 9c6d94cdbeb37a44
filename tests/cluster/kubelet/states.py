"""What a container can be in, and what that makes of its Pod, as the kubelet reports it.

Pure: the phase follows ``getPhase`` and the conditions ``generate.go`` of
Kubernetes' ``pkg/kubelet``, for a Pod whose restartPolicy is Never.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

__all__ = [
    "ContainerState",
    "Pod",
    "Running",
    "Terminated",
    "Waiting",
    "is_native_sidecar",
    "phase",
    "timestamp",
]

Pod: TypeAlias = dict[str, Any]
"""A Pod as the API server sends it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started; ``reason`` says why."""

    reason: str
    message: str = ""

    def report(self) -> dict[str, Any]:
        """Return the API's ContainerState."""
        return {"waiting": {"reason": self.reason} | ({"message": self.message} if self.message else {})}


@dataclass(frozen=True, slots=True)
class Running:
    """Started at a moment, and not ended."""

    started: datetime

    def report(self) -> dict[str, Any]:
        """Return the API's ContainerState."""
        return {"running": {"startedAt": timestamp(self.started)}}


@dataclass(frozen=True, slots=True)
class Terminated:
    """Ended. A process that a signal ended has exit code 128 + signal, as containerd reports it."""

    exit_code: int
    reason: str
    started: datetime
    finished: datetime
    message: str = ""
    signal: int = 0

    def report(self) -> dict[str, Any]:
        """Return the API's ContainerState."""
        optional = {"message": self.message, "signal": self.signal}
        return {
            "terminated": {
                "exitCode": self.exit_code,
                "reason": self.reason,
                "startedAt": timestamp(self.started),
                "finishedAt": timestamp(self.finished),
                **{name: value for name, value in optional.items() if value},
            }
        }


ContainerState: TypeAlias = Waiting | Running | Terminated


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 with whole seconds, as the API's ``Time`` is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_native_sidecar(container: Mapping[str, Any]) -> bool:
    """Tell an init container that keeps running beside the main ones."""
    return container.get("restartPolicy") == "Always"


def phase(spec: Mapping[str, Any], states: Mapping[str, ContainerState]) -> str:
    """Return the Pod's phase from the states of its containers, by name."""
    inits = spec.get("initContainers") or []
    regular = [states[init["name"]] for init in inits if not is_native_sidecar(init)]
    sidecars = [states[init["name"]] for init in inits if is_native_sidecar(init)]
    if any(isinstance(state, Terminated) and state.exit_code != 0 for state in regular):
        return "Failed"
    if not all(isinstance(state, Terminated) for state in regular):
        return "Pending"
    # A native sidecar that has ended says nothing about the phase; one that has not started holds it up.
    main = [states[container["name"]] for container in spec["containers"]]
    return _phase_of_main(main, [state for state in sidecars if not isinstance(state, Terminated)])


def _phase_of_main(main: Sequence[ContainerState], sidecars: Sequence[ContainerState]) -> str:
    if any(isinstance(state, Waiting) for state in (*main, *sidecars)):
        return "Pending"
    if any(isinstance(state, Running) for state in (*main, *sidecars)):
        return "Running"
    failed = any(isinstance(state, Terminated) and state.exit_code != 0 for state in main)
    return "Failed" if failed else "Succeeded"
