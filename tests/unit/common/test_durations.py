import pytest

from oz_agent_worker.common.durations import short_span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (45, "45s"),
        (119, "119s"),
        (120, "2m"),
        (3599, "59m"),
        (3600, "1h"),
        (86399, "23h"),
        (86400, "1d"),
        (1e6, "11d"),
    ],
)
def test_a_span_is_short(seconds: float, text: str) -> None:
    assert short_span(seconds) == text
