from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.backoff import full_jitter


def test_the_ceiling_doubles_from_the_first_delay_to_the_cap() -> None:
    draws: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        draws.append((low, high))
        return high

    delays = list(islice(full_jitter(1.0, 60.0, highest), 9))
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert draws == [(0.0, delay) for delay in delays]


def test_a_delay_is_what_was_drawn() -> None:
    assert list(islice(full_jitter(4.0, 8.0, lambda low, high: low + high / 4), 3)) == [1.0, 2.0, 2.0]


@given(first=st.floats(0.001, 100.0), cap=st.floats(0.001, 1000.0), count=st.integers(1, 100))
def test_no_delay_exceeds_the_cap_once_it_is_reached(first: float, cap: float, count: int) -> None:
    delays = list(islice(full_jitter(first, cap, lambda _, high: high), count))
    assert all(delay <= max(first, cap) for delay in delays)
