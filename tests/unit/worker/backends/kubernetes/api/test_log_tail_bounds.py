import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.api.log_tail_bounds import (
    first_bound,
    first_lines,
    more_lines,
)

MIB = 1024 * 1024


def asked(log: list[int], limit: int) -> tuple[list[int], list[int]]:
    """Read the end of a log of lines of these lengths; return the numbers of lines, and what they weighed."""
    lines: int | None = first_lines(limit)
    counts, weights = [], []
    while lines is not None:
        counts.append(lines)
        weights.append(sum(log[-lines:]))
        lines = more_lines(lines, limit, weight=weights[-1])
    return counts, weights


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(1, 2000))
def test_the_end_of_a_log_is_always_reached(log: list[int], limit: int) -> None:
    counts, weights = asked(log, limit)
    assert weights[-1] >= min(limit, sum(log))
    assert counts == sorted(counts)
    assert len(counts) <= 12


@pytest.mark.parametrize("length", [16, 100, 1000, 16 * 1024])
def test_of_a_long_log_little_more_is_read_than_is_kept(length: int) -> None:
    counts, weights = asked([length] * (64 * MIB // length), MIB)
    assert weights[-1] >= MIB
    assert sum(weights) <= 1.6 * MIB
    assert len(counts) <= 3


def test_where_lines_grow_shorter_towards_the_end_more_are_asked_for() -> None:
    counts, weights = asked([1000] * 20_000 + [20] * 5000, MIB)
    assert weights[-1] >= MIB
    assert len(counts) <= 4


def test_there_is_room_for_timestamps() -> None:
    assert first_bound(MIB) == 2 * MIB
    assert first_lines(10) == 1
