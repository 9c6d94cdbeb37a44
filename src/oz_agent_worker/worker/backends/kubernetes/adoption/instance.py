"""Which worker process created a Job: its name in the annotation ``oz.warp.dev/owner``. Pure.

A worker in the cluster is its Pod (``pod/<namespace>/<name>/<uid>``): a container that is
started again in the same Pod goes on with what is its own. Any other is a process, which no
later process equals: ``process/<hostname>/<boot ID>/<PID namespace>/<pid>/<start time>``,
without the namespace where the system does not tell of one.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["UNSAID", "Instance", "Machine", "PodInstance", "ProcessInstance", "parse_instance"]

#: In place of what a system does not tell.
UNSAID: Final = "-"


@dataclass(frozen=True, slots=True)
class PodInstance:
    """A worker's Pod, as the API server that keeps its Jobs knows it."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"pod/{self.namespace}/{self.name}/{self.uid}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where processes can be looked for: a hostname, what changes with each boot, and a PID namespace.

    The namespace is named by its inode number (pid_namespaces(7)): process IDs mean something
    in one alone, and a container has mostly its own.
    """

    host: str
    boot: str
    pid_namespace: str = UNSAID

    def __str__(self) -> str:
        named = f"{self.host}/{self.boot}"
        return named if self.pid_namespace == UNSAID else f"{named}/{self.pid_namespace}"


@dataclass(frozen=True, slots=True)
class ProcessInstance:
    """A worker's process; ``started`` tells it from others that have its ``pid`` in the same boot."""

    machine: Machine
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process/{self.machine}/{self.pid}/{self.started}"


Instance: TypeAlias = PodInstance | ProcessInstance


def parse_instance(text: str | None) -> Instance | None:
    """Read an owner back; ``None`` for anything that no worker of this form has written."""
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
    # One text for each instance: what reads like one and is written otherwise is none.
    return found if str(found) == text else None
