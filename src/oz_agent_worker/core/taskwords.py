"""What a task said itself: a text that does not print itself."""

from dataclasses import dataclass
from typing import Final

__all__ = ["UNSHOWN", "TaskWords"]

#: What stands in the place of a task's words wherever they are printed.
UNSHOWN: Final = "[a task's own words]"


@dataclass(frozen=True, slots=True, repr=False)
class TaskWords:
    """Words that a program of a task wrote, such as the end of its log.

    They are its owner's to read and may hold any secret that the task has, so ``str``, ``repr``
    and formatting all give ``UNSHOWN``: no log line shows them by accident. ``text`` is the one
    way to them.
    """

    text: str

    def __str__(self) -> str:
        return UNSHOWN

    __repr__ = __str__

    def __format__(self, format_spec: str) -> str:
        return format(UNSHOWN, format_spec)
