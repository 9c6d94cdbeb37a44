"""Durations in the notation of the Rust crate ``humantime``: ``45m``, ``1h 30m``, ``0s``."""

import re
from typing import Final

__all__ = ["looks_like_duration", "parse_duration"]

_UNIT_NAMES: Final = {
    1e-9: "nanos nsec ns",
    1e-6: "micros usec us",
    1e-3: "millis msec ms",
    1.0: "seconds second secs sec s",
    60.0: "minutes minute mins min m",
    3600.0: "hours hour hrs hr h",
    86400.0: "days day d",
    604800.0: "weeks week wks wk w",
    2630016.0: "months month M",
    31557600.0: "years year yrs yr y",
}
_SECONDS: Final = {unit: seconds for seconds, names in _UNIT_NAMES.items() for unit in names.split()}
_PART: Final = re.compile(r"\s*([0-9]+)\s*([A-Za-z]+)\s*", re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` stands for.

    Raises:
        ValueError: ``text`` is no duration; its message says what one looks like.
    """
    if text.strip() == "0":
        return 0.0
    total, position = 0.0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or part[2] not in _SECONDS:
            break
        # A float: an absurd number of digits is an infinity, never an error.
        total += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if position == 0 or position < len(text):
        raise ValueError("a duration is numbers with units, such as 45m, 1h30m or 0s")
    return total


def looks_like_duration(text: str) -> bool:
    """Whether ``parse_duration`` would take ``text``."""
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True
