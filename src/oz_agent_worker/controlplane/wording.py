"""Text from elsewhere, cut to a size and a form in which it may be logged or stored."""

from typing import Final

__all__ = ["one_line", "storable"]

_LOGGED: Final = 100
_STORED: Final = 4000


def one_line(text: str, limit: int = _LOGGED) -> str:
    """Text for a log line: short, and without control characters, which could forge another line."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def storable(text: str, limit: int = _STORED) -> str:
    """Text for the database: bounded, and without NUL, which PostgreSQL does not store."""
    return text[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}")
