"""A checked assignment, made from a ``task_assignment`` frame.

On the wire every field is optional. Here values are trimmed, an empty one is ``None``, and what
a task cannot run without is present.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from oz_agent_worker.common.secret import Secret

from . import frames
from .frames import InstanceShape
from .report import ExecutionKey

__all__ = ["Assignment", "AssignmentError", "InstanceShape", "Sidecar", "parse_assignment"]

AGENT_MOUNT_PATH: Final = "/agent"


class AssignmentError(ValueError):
    """An assignment that cannot be carried out; the text says which field and why."""


class TaskTooLargeError(AssignmentError):
    """Something of the task is larger than a program can be given, or than the cluster stores."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """An image whose files appear at ``mount_path`` in the task."""

    image: str
    mount_path: str
    read_write: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One execution of a run.

    ``agent_task_id`` is the ID that the agent is given. ``created_at`` is the run's, as the
    control plane wrote it (RFC 3339).
    """

    key: ExecutionKey
    agent_task_id: str
    title: str = ""
    created_at: str | None = None
    team_owned: bool = False
    config: frames.ConfigSnapshot | None = None
    image: str | None = None
    sidecars: tuple[Sidecar, ...] = ()
    env: Mapping[str, Secret] = field(default_factory=dict)
    extra_args: tuple[str, ...] = field(default=(), repr=False)  # may hold secrets
    shape: InstanceShape = field(default_factory=InstanceShape)

    @property
    def harness(self) -> str | None:
        """The harness that the run names; ``None`` is the agent's built-in one."""
        harness = trimmed(self.config.harness.type) if self.config and self.config.harness else None
        return None if harness == "oz" else harness


def trimmed(value: str | None) -> str | None:
    """Strip white space; an empty value counts as absent."""
    return (value or "").strip() or None


def parse_assignment(frame: frames.TaskAssignment) -> Assignment:
    """Check an assignment frame.

    Raises:
        AssignmentError: there is no task ID or no ``task``, an ID is not an identifier, or an
            environment variable is malformed.
    """
    task_id = trimmed(frame.task_id)
    if task_id is None:
        raise AssignmentError("`task_id` is missing")
    if frame.task is None:
        raise AssignmentError("`task` is missing: the assignment does not say what to run")
    task, shape = frame.task, frame.instance_shape or InstanceShape()
    return Assignment(
        key=ExecutionKey(
            _identifier("task_id", task_id),
            _identifier("execution_id", trimmed(frame.execution_id) or task_id),
        ),
        agent_task_id=_identifier("task.id", trimmed(task.id) or task_id),
        title=task.title or "",
        created_at=trimmed(task.created_at),
        team_owned=task.owner is not None and trimmed(task.owner.type) == "TEAM",
        config=task.agent_config_snapshot,
        image=trimmed(frame.docker_image),
        sidecars=_sidecars(frame),
        env=_environment(frame.env_vars or {}),
        extra_args=tuple(a for a in frame.additional_oz_args or () if a is not None),
        shape=InstanceShape(_positive(shape.vcpus), _positive(shape.memory_gb)),
    )


def _identifier(where: str, value: str) -> str:
    if len(value) > 512 or not value.isprintable() or " " in value:
        raise AssignmentError(
            f"`{where}` is not an identifier: it has white space or control characters, or is too long"
        )
    return value


def _environment(variables: Mapping[str, Secret | None]) -> dict[str, Secret]:
    given = {name: value for name, value in variables.items() if value is not None}
    for name, value in given.items():
        if not name or "=" in name or "\0" in name or "\0" in value.reveal():
            raise AssignmentError("`env_vars` has an empty name, a name with `=`, or a NUL character")
    return given


def _sidecars(frame: frames.TaskAssignment) -> tuple[Sidecar, ...]:
    agent_image = trimmed(frame.sidecar_image)
    sidecars = [Sidecar(agent_image, AGENT_MOUNT_PATH)] if agent_image else []
    sidecars.extend(
        Sidecar(trimmed(s.image) or "", trimmed(s.mount_path) or "", bool(s.read_write))
        for s in frame.additional_sidecars or ()
        if s is not None
    )
    return tuple(sidecars)


def _positive(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


def compact_json(servers: Mapping[str, msgspec.Raw]) -> str:
    """Write a map of raw JSON values as one compact document with sorted keys.

    Raises:
        AssignmentError: the values are nested too deeply.
    """
    document = msgspec.json.encode({name: servers[name] for name in sorted(servers)})
    try:
        return msgspec.json.format(document, indent=-1).decode()
    except RecursionError:
        raise AssignmentError("`mcp_servers` is nested too deeply") from None
