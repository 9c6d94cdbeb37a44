"""Points in time as whole microseconds since the Unix epoch.

One integer orders, compares and pages the same way in every database, and loses
nothing on its way to RFC 3339 and back.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["Clock", "format_duration", "format_time", "micros", "parse_time", "system_clock"]

#: Returns the present as microseconds since the epoch.
Clock = Callable[[], int]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def system_clock() -> int:
    """The wall clock: deadlines are stored, and must mean the same after a restart."""
    return time.time_ns() // 1000


def micros(seconds: float) -> int:
    """Seconds as microseconds."""
    return round(seconds * 1_000_000)


def format_time(instant: int) -> str:
    """Write RFC 3339 in UTC with microseconds: ``2026-01-02T03:04:05.000006Z``."""
    return (_EPOCH + instant * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """Read an RFC 3339 time.

    Raises:
        ValueError: no such time, or one without an offset from UTC: which instant
            it means would be a guess.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("has no offset from UTC (append Z, or +01:00)")
    return (parsed - _EPOCH) // _MICROSECOND


def format_duration(length: int) -> str:
    """Write a length in microseconds as an ISO 8601 duration of whole seconds: ``PT2M30S``."""
    minutes, seconds = divmod(max(0, length) // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n]
    return "PT" + ("".join(parts) or "0S")
