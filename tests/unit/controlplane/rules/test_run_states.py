import pytest

from oz_agent_worker.controlplane.rules.run_states import TERMINAL, TRANSITIONS, RunState, can_move

ENDS = {RunState.SUCCEEDED, RunState.FAILED, RunState.ERROR, RunState.CANCELLED}


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(RunState)


def test_a_terminal_state_is_one_without_a_way_out() -> None:
    assert {state for state, targets in TRANSITIONS.items() if not targets} == TERMINAL


def test_every_living_run_can_end_in_every_way() -> None:
    for state in set(RunState) - TERMINAL:
        assert TRANSITIONS[state] >= ENDS


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (RunState.QUEUED, RunState.PENDING),
        (RunState.PENDING, RunState.QUEUED),
        (RunState.PENDING, RunState.CLAIMED),
        (RunState.QUEUED, RunState.CLAIMED),
        (RunState.CLAIMED, RunState.INPROGRESS),
        (RunState.INPROGRESS, RunState.QUEUED),
        (RunState.CLAIMED, RunState.PENDING),
    ],
)
def test_moves_that_exist(source: RunState, target: RunState) -> None:
    assert can_move(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (RunState.SUCCEEDED, RunState.FAILED),
        (RunState.CANCELLED, RunState.CLAIMED),
        (RunState.INPROGRESS, RunState.PENDING),
        (RunState.INPROGRESS, RunState.CLAIMED),
        (RunState.QUEUED, RunState.QUEUED),
        (RunState.ERROR, RunState.QUEUED),
    ],
)
def test_moves_that_do_not(source: RunState, target: RunState) -> None:
    assert not can_move(source, target)


def test_no_run_is_ever_blocked() -> None:
    assert not any(RunState.BLOCKED in targets for targets in TRANSITIONS.values())
