import pytest

from oz_agent_worker.agent.duration import looks_like_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("45m", 2700),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("90 sec", 90),
        ("250ms", 0.25),
        ("2days", 172800),
        ("1M", 2630016),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "45", "m", "45x", "1h30", "-1s", "1.5h", "45m!", "٤s"])
def test_what_is_no_duration(text: str) -> None:
    assert not looks_like_duration(text)
    with pytest.raises(ValueError, match="45m, 1h30m or 0s"):
        parse_duration(text)


def test_absurd_numbers_are_no_error() -> None:
    assert parse_duration("9" * 5000 + "y") == float("inf")
