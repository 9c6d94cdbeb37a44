"""Durations: those of Go programs (time.ParseDuration) and those of agents (humantime, a Rust crate)."""

import re
from typing import Final

__all__ = ["DURATION_SCHEMA", "idle_warning", "is_no_duration", "parse_duration"]

#: Units of Go's time.ParseDuration and of the humantime crate, with their seconds.
_SECONDS: Final = {
    unit: seconds
    for units, seconds in (
        ("nsec ns", 1e-9), ("usec us \u00b5s \u03bcs", 1e-6), ("msec ms", 1e-3),
        ("seconds second secs sec s", 1.0), ("minutes minute mins min m", 60.0),
        ("hours hour hrs hr h", 3600.0), ("days day d", 86400.0), ("weeks week wks wk w", 604800.0),
        ("months month M", 2630016.0), ("years year yrs yr y", 31557600.0),
    )
    for unit in units.split()
}  # fmt: skip
# A number and letters; whether these are a unit is looked up.
_PART: Final = "([0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)([A-Za-z\u00b5\u03bc]+)"
_DURATION: Final = re.compile(f"(?:{_PART})+")
_PARTS: Final = re.compile(_PART)
_HUMANTIME: Final = re.compile("0|(?:[0-9]+ *[a-zA-Z\u00b5\u03bc]+ *)+")
#: What ``parse_duration`` takes, units aside.
DURATION_SCHEMA: Final = {
    "type": "string",
    "pattern": "^[+-]?(0|([0-9.]+ *[A-Za-z\u00b5\u03bc]+ *)+)$",
}
#: The longest duration of Go, in seconds: 292 years (package time, Duration).
_LONGEST: Final = 2**63 / 1e9


def parse_duration(value: str) -> float | None:
    """Read a humantime or Go duration (``90s``, ``1h30m``, ``-.5s``) as seconds.

    ``None`` if it is not one, or above 292 years, the longest of Go.
    """
    compact = value.replace(" ", "")
    sign, rest = (-1.0 if compact[:1] == "-" else 1.0), compact[compact[:1] in {"+", "-"} :]
    if rest == "0":
        return 0.0
    parts = _PARTS.findall(rest) if _DURATION.fullmatch(rest) else ()
    if not parts or not all(unit in _SECONDS for _, unit in parts):
        return None
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return sign * seconds if seconds <= _LONGEST else None


def is_no_duration(value: str) -> bool:
    """Whether a text is a duration neither of humantime nor of Go, or below 0."""
    seconds = 0.0 if _is_humantime(value) else parse_duration(value)
    return seconds is None or seconds < 0


def idle_warning(value: str) -> str | None:
    """What may be wrong with a duration that an agent reads; agents read humantime (a Rust crate)."""
    if _is_humantime(value):
        return None
    return f"{value!r} is passed on as it is, and an agent may not read it: write it such as 45m or 1h 30m"


def _is_humantime(value: str) -> bool:
    parts = _PARTS.findall(value.replace(" ", ""))
    return bool(_HUMANTIME.fullmatch(value)) and all(unit in _SECONDS for _, unit in parts)
