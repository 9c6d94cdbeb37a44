"""Spans of time for people."""

__all__ = ["short_span"]


def short_span(seconds: float) -> str:
    """A span in kubectl's short form: 45s, 12m, 3h, 2d. A negative one, of clocks that differ, is 0s."""
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= 2 * size or (whole >= size and unit != "m"):
            return f"{whole // size}{unit}"
    return f"{whole}s"
