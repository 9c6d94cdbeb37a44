import pytest

from tests.chaos.steps import find
from tests.chaos.victim import KillPoint, parse_kill_point


def test_a_kill_point_is_a_step_and_a_count() -> None:
    assert parse_kill_point("claim-sent:3") == KillPoint(find("claim-sent"), 3)
    assert parse_kill_point("claim-sent") == KillPoint(find("claim-sent"), 1)


@pytest.mark.parametrize("text", ["nowhere:1", "claim-sent:x"])
def test_any_other_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nowhere|invalid literal"):
        parse_kill_point(text)
