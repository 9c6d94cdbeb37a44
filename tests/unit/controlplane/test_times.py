import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oz_agent_worker.controlplane.times import format_duration, format_time, micros, parse_time


def test_format_is_utc_with_microseconds() -> None:
    assert format_time(1_767_323_045_000_006) == "2026-01-02T03:04:05.000006Z"


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_format_and_parse_agree(instant: int) -> None:
    assert parse_time(format_time(instant)) == instant


def test_parse_honours_the_offset() -> None:
    assert parse_time("2026-01-02T04:04:05+01:00") == parse_time("2026-01-02T03:04:05Z")


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-02T03:04:05"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "PT0S"), (59.9, "PT59S"), (150, "PT2M30S"), (3600, "PT1H"), (-1, "PT0S")]
)
def test_duration(seconds: float, text: str) -> None:
    assert format_duration(micros(seconds)) == text
