"""Compares a server's clock with this machine's: tokens and certificates depend on both."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from .checks import CheckResult, fail, ok, skip, warn

__all__ = ["clock_skew", "judge_clock", "parse_http_date"]

#: Above how many seconds a difference is a warning, and above how many a failure.
_WARNING: Final = 30.0
_FAILURE: Final = 300.0


def parse_http_date(text: str | None) -> datetime | None:
    """Parse the ``Date`` of an HTTP answer (RFC 9110, 6.6.1); ``None`` if it is none."""
    try:
        parsed = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def clock_skew(date: str | None, sent: datetime, answered: datetime) -> float | None:
    """Return how many seconds a server's clock is ahead, from the ``Date`` of its answer (RFC 9110, 6.6.1).

    A Date has no fractions of a second: a difference within its second, or within the time between
    request and answer, is no skew. ``None`` without a Date.
    """
    server = parse_http_date(date)
    if server is None:
        return None
    ahead = (server - answered).total_seconds()
    behind = (sent - server).total_seconds() - 1.0
    return ahead if ahead > 0 else -behind if behind > 0 else 0.0


def judge_clock(skew: float | None) -> CheckResult:
    """Estimate how many seconds a server's clock is ahead of this machine's; ``None``: unknown."""
    if skew is None:
        return skip("the server's answer has no Date")
    if abs(skew) < 1:
        return ok("agrees with this machine's")
    detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    fix = "set both clocks by NTP: tokens and certificates are valid for a time that both must agree on"
    if abs(skew) > _FAILURE:
        return fail(detail, fix)
    return warn(detail, fix) if abs(skew) > _WARNING else ok(detail)
