import pytest

from tests.chaos.faults import resolve
from tests.chaos.mutants import MUTANTS
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


@pytest.mark.parametrize("name", sorted({step for mutant in MUTANTS.values() for step in mutant.shown_by}))
def test_what_shows_a_mutant_is_a_step(name: str) -> None:
    assert find(name).target


def test_a_backend_has_its_own_steps_and_the_common_ones() -> None:
    direct = {step.name for step in steps_of(Side.WORKER, "direct")}
    assert "claim-sent" in direct
    assert "job-created" not in direct
