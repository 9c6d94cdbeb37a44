import pytest

from oz_agent_worker.controlplane.rules.run_states import (
    TERMINAL,
    TRANSITIONS,
    RunState,
    can_move,
    cancellation_message,
    cancellation_pending,
    cancelled_by_worker,
)

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


def test_it_says_who_asked_where_that_is_known() -> None:
    assert cancellation_message("alice", "no worker had it") == (
        'Cancelled with the API key "alice"; no worker had it.'
    )
    assert cancellation_message(None, "no worker had it") == "Cancelled; no worker had it."


@pytest.mark.parametrize(
    ("name", "shown"),
    [('a"; b', r'"a\"; b"'), ("a\nb", r'"a\nb"'), ("jürgen", '"jürgen"'), ("a\\", r'"a\\"')],
)
def test_a_name_does_not_pass_for_more_than_a_name(name: str, shown: str) -> None:
    assert cancellation_message(name, "no worker had it") == (
        f"Cancelled with the API key {shown}; no worker had it."
    )


def by_worker(reason: str, *, asked_by: str | None = None, asked: bool = False, stopped: bool = True) -> str:
    return cancelled_by_worker("w", reason, asked_by=asked_by, asked=asked, stopped=stopped)


def test_a_worker_that_was_asked_to_says_no_more_than_that_it_did() -> None:
    message = by_worker("cancellation requested", asked_by="alice", asked=True)
    assert message == 'Cancelled with the API key "alice"; worker w stopped it.'
    assert by_worker("", asked=True) == "Cancelled; worker w stopped it."


def test_a_public_worker_that_was_asked_to_shows_nothing_by_its_report() -> None:
    assert by_worker("Task was cancelled", asked_by="alice", asked=True, stopped=False) == (
        'Cancelled with the API key "alice"; '
        "worker w reported it as cancelled, which does not show that the task stopped."
    )


@pytest.mark.parametrize("stopped", [True, False])
def test_a_worker_that_cancels_unasked_gives_the_message(stopped: bool) -> None:
    message = by_worker(" the node is drained. ", stopped=stopped)
    assert message == "Cancelled by worker w: the node is drained."
    assert by_worker(" ", stopped=stopped) == "Cancelled by worker w."


def test_while_it_is_waited_for() -> None:
    assert cancellation_pending("alice", "w") == (
        'Cancellation requested with the API key "alice"; waiting for worker w.'
    )
    assert cancellation_pending(None, None) == "Cancellation requested; waiting for its worker."
    assert cancellation_pending(None, "w", "noon") == (
        "Cancellation requested; waiting for worker w, until noon at most: "
        "it need not confirm that the task stopped."
    )


def test_names_and_messages_are_fit_to_be_stored() -> None:
    assert "\0" not in by_worker("a\0b")
    assert len(by_worker("x" * 100_000)) < 5000
