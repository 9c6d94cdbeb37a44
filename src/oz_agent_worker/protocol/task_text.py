"""Text that a task itself wrote; it does not print itself."""

from oz_agent_worker.common.secret import Redacted

__all__ = ["TaskText"]


class TaskText(Redacted):
    """Text that a program of a task wrote, such as the end of its log.

    It is its owner's to read and may hold any secret that the task has. No serializer knows the
    type, so that no log line and no record shows it by accident.
    """

    __slots__ = ()
    placeholder = "[a task's own words]"
