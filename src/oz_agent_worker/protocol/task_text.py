"""What a task said itself: a text that does not print itself."""

from typing import Final

__all__ = ["UNSHOWN", "TaskText"]

#: What stands in the place of a task's words wherever they are printed.
UNSHOWN: Final = "[a task's own words]"


class TaskText:
    """Words that a program of a task wrote, such as the end of its log.

    They are its owner's to read and may hold any secret that the task has, so ``str``, ``repr``
    and formatting all give ``UNSHOWN``, and no serializer knows the type: no log line and no
    record shows them by accident. ``text`` is the one way to them.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def text(self) -> str:
        """The words."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, TaskText) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return UNSHOWN

    __repr__ = __str__

    def __format__(self, format_spec: str) -> str:
        return format(UNSHOWN, format_spec)
