"""A string that does not print itself."""

from typing import Any, Final

__all__ = ["REDACTED", "Secret"]

REDACTED: Final = "***"


class Secret:
    """A secret string: ``str``, ``repr`` and formatting all give ``***``.

    ``reveal()`` is the one way to the value, so that a search for it finds each
    place where a secret leaves the process.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __str__(self) -> str:
        return REDACTED

    __repr__ = __str__

    def __format__(self, format_spec: str) -> str:
        return format(REDACTED, format_spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret cannot be pickled")
