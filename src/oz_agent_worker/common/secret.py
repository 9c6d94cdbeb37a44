"""Strings that do not print themselves."""

from typing import Any, ClassVar, Final

__all__ = ["REDACTED", "Redacted", "Secret"]

REDACTED: Final = "***"


class Redacted:
    """A string for which ``str``, ``repr`` and formatting give ``placeholder``.

    ``reveal()`` is the one way to the value, so that a search for it finds each place where
    the value leaves the process.
    """

    __slots__ = ("_value",)
    placeholder: ClassVar[str]

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __str__(self) -> str:
        return self.placeholder

    __repr__ = __str__

    def __format__(self, format_spec: str) -> str:
        return format(self.placeholder, format_spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Redacted) and type(other) is type(self) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError(f"a {type(self).__name__} cannot be pickled")


class Secret(Redacted):
    """A secret, such as an API key."""

    __slots__ = ()
    placeholder = REDACTED
