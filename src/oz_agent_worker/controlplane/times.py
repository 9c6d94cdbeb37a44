"""Times as whole microseconds since the Unix epoch.

An integer sorts and compares the same way in every database, and converts to RFC 3339 and back
without loss.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["Clock", "format_duration", "format_time", "micros", "parse_time", "system_clock"]

#: Returns the current time in microseconds since the epoch.
Clock = Callable[[], int]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def system_clock() -> int:
    """The wall clock. Deadlines are stored, so they must have the same meaning after a restart."""
    return time.time_ns() // 1000


def micros(seconds: float) -> int:
    """Convert seconds to microseconds."""
    return round(seconds * 1_000_000)


def format_time(instant: int) -> str:
    """Format as RFC 3339 in UTC with microseconds: ``2026-01-02T03:04:05.000006Z``."""
    return (_EPOCH + instant * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """Parse an RFC 3339 time.

    Raises:
        ValueError: not a time, or one without an offset from UTC, which is ambiguous.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("has no offset from UTC (append Z, or +01:00)")
    return (parsed - _EPOCH) // _MICROSECOND


def format_duration(length: int) -> str:
    """Format a length in microseconds as an ISO 8601 duration of whole seconds: ``PT2M30S``."""
    minutes, seconds = divmod(max(0, length) // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n]
    return "PT" + ("".join(parts) or "0S")
