"""Durations for people."""

__all__ = ["short_span"]


def short_span(seconds: float) -> str:
    """Format seconds as kubectl does: 45s, 12m, 3h, 2d. Negative seconds, from clocks that differ, are 0s."""
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= 2 * size or (whole >= size and unit != "m"):
            return f"{whole // size}{unit}"
    return f"{whole}s"
