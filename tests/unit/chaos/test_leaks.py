from tests.chaos.leaks import Pace


def test_the_pace_says_how_much_is_left() -> None:
    pace = Pace(500, 5500, 100.0)
    assert pace.line(500, 0, 100.0) == "500 of 5500 tasks submitted, 0 under way"
    assert pace.line(640, 140, 101.0) == "640 of 5500 tasks submitted, 140 under way"
    line = pace.line(1650, 150, 150.0)
    assert line == "1650 of 5500 tasks submitted, 150 under way, 20.0 a second, 3.3 min to go"
