"""Makes text from other programs safe to log and to store, and formats lengths of time."""

from typing import Final

__all__ = ["brief", "in_words", "one_line", "storable"]

_LOGGED: Final = 100
_STORED: Final = 4000
_ERROR: Final = 500


def one_line(text: str, limit: int = _LOGGED) -> str:
    """Text for a log line: short, and without control characters, which could forge a second line."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def storable(text: str, limit: int = _STORED) -> str:
    """Text for the database: bounded, and without NUL, which PostgreSQL cannot store."""
    return text[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}")


def brief(error: BaseException) -> str:
    """The first line of an error: a database may quote the whole row in the others."""
    return one_line(str(error).partition("\n")[0], _ERROR)


def in_words(length: int) -> str:
    """A length in microseconds for people: ``45 s``, ``10 min``, ``2 h 5 min``."""
    seconds = max(0, length) // 1_000_000
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
