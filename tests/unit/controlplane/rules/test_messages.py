import pytest

from oz_agent_worker.controlplane.rules.messages import brief, in_words, one_line, storable
from oz_agent_worker.controlplane.times import micros


def test_a_log_line_stays_one_line() -> None:
    assert one_line("a\nb\x1b[31m\u2028c") == "a?b?[31m?c"
    assert len(one_line("x" * 5000)) == 100


def test_stored_text_is_bounded_and_has_no_nul() -> None:
    assert storable("a\0b\n") == "a\N{REPLACEMENT CHARACTER}b\n"
    assert len(storable("x" * 5000)) == 4000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (601, "10 min 1 s"),
        (3600, "1 h"),
        (7501, "2 h 5 min"),
    ],
)
def test_a_length_for_a_reader(seconds: float, text: str) -> None:
    assert in_words(micros(seconds)) == text


def test_only_the_first_line_of_an_error_is_kept() -> None:
    assert brief(ValueError("no such thing\nDETAIL: the secret")) == "no such thing"
