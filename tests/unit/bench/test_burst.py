import pytest

from tests.bench.burst import neighbour_ratios


def test_each_round_is_held_against_its_neighbours() -> None:
    assert neighbour_ratios([80.0, 90.0], [100.0, 100.0, 200.0]) == [0.8, 0.6]


def test_a_bare_round_precedes_and_follows_each() -> None:
    with pytest.raises(ValueError, match="zip"):
        neighbour_ratios([80.0, 90.0], [100.0, 100.0])
