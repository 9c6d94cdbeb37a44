import pytest

from tests.bench.yardstick import mean_of_rest


def test_a_mean_counts_from_the_last_reading() -> None:
    assert mean_of_rest((30, 9.0), (10, 4.0)) == pytest.approx(0.25)


def test_without_any_work_there_is_no_mean() -> None:
    assert mean_of_rest((10, 4.0), (10, 4.0)) == 0.0
