import pytest

from tests.chaos.faults import resolve
from tests.chaos.steps import STEPS, Moment, Side, find, steps_of


@pytest.mark.parametrize("target", sorted({step.target for step in STEPS if step.target}))
def test_every_step_names_a_function_that_there_is(target: str) -> None:
    holder, name = resolve(target)
    assert callable(getattr(holder, name))


def test_only_what_is_watched_from_outside_names_no_function() -> None:
    assert all((step.target == "") == (step.moment is Moment.OUTSIDE) for step in STEPS)


def test_names_are_unique() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_a_step_is_found_by_its_name() -> None:
    assert find("job-created").moment is Moment.AFTER
    with pytest.raises(LookupError, match="no step 'nowhere'"):
        find("nowhere")


def test_a_backend_has_its_own_steps_and_the_common_ones() -> None:
    direct = {step.name for step in steps_of(Side.WORKER, "direct")}
    assert "claim-sent" in direct
    assert "job-created" not in direct
