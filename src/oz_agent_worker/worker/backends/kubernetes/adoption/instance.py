"""The identity of the worker process that created a Job: the annotation ``oz.warp.dev/owner``. Pure.

A worker in the cluster is its Pod (``pod/<namespace>/<name>/<uid>``): a container that is restarted
in the same Pod still owns its Jobs. Any other worker is a process, and no later process has the same
identity: ``process/<hostname>/<boot ID>/<PID namespace>/<pid>/<start time>``, without the namespace
if the system does not provide it.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["UNAVAILABLE", "Instance", "Machine", "PodInstance", "ProcessInstance", "parse_instance"]

#: The value of what the system does not provide.
UNAVAILABLE: Final = "-"


@dataclass(frozen=True, slots=True)
class PodInstance:
    """A worker's Pod, in the cluster of its Jobs."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"pod/{self.namespace}/{self.name}/{self.uid}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a process ID means something: a hostname, an ID of the boot, and a PID namespace.

    The namespace is the inode number (pid_namespaces(7)); most containers have their own.
    """

    host: str
    boot: str
    pid_namespace: str = UNAVAILABLE

    def __str__(self) -> str:
        named = f"{self.host}/{self.boot}"
        return named if self.pid_namespace == UNAVAILABLE else f"{named}/{self.pid_namespace}"


@dataclass(frozen=True, slots=True)
class ProcessInstance:
    """A worker's process; ``started`` distinguishes it from others with its ``pid`` in the same boot."""

    machine: Machine
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process/{self.machine}/{self.pid}/{self.started}"


Instance: TypeAlias = PodInstance | ProcessInstance


def parse_instance(text: str | None) -> Instance | None:
    """Parse an owner; ``None`` for anything that no such worker has written."""
    parts = (text or "").split("/")
    if not all(parts):
        return None
    found: Instance | None = None
    match parts:
        case ["pod", namespace, name, uid]:
            found = PodInstance(namespace, name, uid)
        case ["process", host, boot, pid, started] if pid.isdecimal():
            found = ProcessInstance(Machine(host, boot), int(pid), started)
        case ["process", host, boot, pid_namespace, pid, started] if pid.isdecimal():
            found = ProcessInstance(Machine(host, boot, pid_namespace), int(pid), started)
    # Each instance has one text: what differs from it was not written by a worker.
    return found if str(found) == text else None
