"""How far a server's clock is off, from the Date of its answer."""

from datetime import UTC, datetime

import pytest

from oz_agent_worker.worker.checks import Severity
from oz_agent_worker.worker.clock_skew import clock_skew, judge_clock

SENT = datetime(2026, 1, 31, 12, 0, 10, 900_000, tzinfo=UTC)
ANSWERED = datetime(2026, 1, 31, 12, 0, 11, 100_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Sat, 31 Jan 2026 12:00:10 GMT", 0.0),
        ("Sat, 31 Jan 2026 12:00:11 GMT", 0.0),
        ("Sat, 31 Jan 2026 12:01:11 GMT", 59.9),
        ("Sat, 31 Jan 2026 11:59:10 GMT", -59.9),
        ("Sat, 31 Jan 2026 12:00:10 -0000", 0.0),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_only_what_cannot_be_explained_is_a_skew(date: str | None, skew: float | None) -> None:
    assert clock_skew(date, SENT, ANSWERED) == (None if skew is None else pytest.approx(skew))


@pytest.mark.parametrize(
    ("skew", "grade", "detail"),
    [
        (0.0, Severity.OK, "agrees with this machine's"),
        (-29.0, Severity.OK, "29 s behind this machine's"),
        (31.0, Severity.WARN, "31 s ahead of this machine's"),
        (-300.0, Severity.WARN, "300 s behind this machine's"),
        (301.0, Severity.FAIL, "301 s ahead of this machine's"),
        (None, Severity.SKIP, "the server's answer has no Date"),
    ],
)
def test_small_differences_do_no_harm(skew: float | None, grade: Severity, detail: str) -> None:
    result = judge_clock(skew)
    assert (result.severity, result.detail) == (grade, detail)
    assert ("NTP" in result.fix) == (grade in {Severity.WARN, Severity.FAIL})
