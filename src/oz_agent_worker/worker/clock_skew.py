"""Do a server's clock and this machine's agree? Tokens and certificates need them to."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from .checks import CheckResult, fail, ok, skip, warn

__all__ = ["clock_skew", "judge_clock"]

#: From how many seconds on a difference is worth a look, and from how many it does harm.
_WARNING: Final = 30.0
_FAILURE: Final = 300.0


def clock_skew(date: str | None, sent: datetime, answered: datetime) -> float | None:
    """How many seconds a server's clock is ahead, from the ``Date`` of its answer (RFC 9110, 6.6.1).

    A Date has no fractions: what lies within its second, and between question and answer, is
    no skew. ``None`` where there is no Date.
    """
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    ahead = (told - answered).total_seconds()
    behind = (sent - told).total_seconds() - 1.0
    return ahead if ahead > 0 else -behind if behind > 0 else 0.0


def judge_clock(skew: float | None) -> CheckResult:
    """Judge by how many seconds a server's clock is ahead of this machine's."""
    if skew is None:
        return skip("the server's answer has no Date")
    if abs(skew) < 1:
        return ok("agrees with this machine's")
    told = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    fix = "set both clocks by NTP: tokens and certificates are valid for a time that both must agree on"
    if abs(skew) > _FAILURE:
        return fail(told, fix)
    return warn(told, fix) if abs(skew) > _WARNING else ok(told)
