from dataclasses import replace

import msgspec
import pytest

from oz_agent_worker.controlplane.api.run_item import run_item, status_message
from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.times import micros
from tests.unit.controlplane.samples import CREATED, RUN, a_run


def test_a_queued_run_whole() -> None:
    creator = {"uid": RUN.creator_id, "display_name": "alice", "type": "service_account"}
    assert run_item(RUN, {}) == {
        "run_id": RUN.id,
        "task_id": RUN.id,
        "title": "Mend the build",
        "state": "QUEUED",
        "prompt": "Mend the build, please",
        "created_at": "2026-01-02T03:04:05.000000Z",
        "updated_at": "2026-01-02T03:04:05.000000Z",
        "source": "API",
        "creator": creator,
        "executor": creator,
        "execution_location": "REMOTE",
        "is_run_type_cancellable": True,
        "execution_id": RUN.execution_id,
    }


def test_a_failed_run() -> None:
    run = a_run(
        state=RunState.FAILED,
        started_at=CREATED + micros(1),
        ended_at=CREATED + micros(151),
        owner=Peer("w"),
        message="exit code 2",
        error_code="container_exit",
        retryable=False,
        exit_code=2,
        config='{"model_id":"m"}',
        skill_spec="repo:review",
    )
    item = msgspec.json.decode(msgspec.json.encode(run_item(run, {"ticket": "1"})))
    assert item["status_message"] == {
        "message": "exit code 2",
        "error_code": "container_exit",
        "retryable": False,
    }
    assert item["agent_config"] == {"model_id": "m"}
    assert item["agent_skill"] == {"full_path": "repo:review"}
    assert item["metadata"] == {"ticket": "1"}
    assert item["run_time"] == "PT2M30S"
    assert (item["worker_id"], item["exit_code"]) == ("w", 2)


def test_a_run_that_never_started_has_no_run_time() -> None:
    assert "run_time" not in run_item(a_run(state=RunState.CANCELLED, ended_at=CREATED), {})


def test_an_exit_code_of_zero_is_shown() -> None:
    assert run_item(a_run(state=RunState.SUCCEEDED, exit_code=0), {})["exit_code"] == 0


def test_a_wish_to_cancel_is_shown_until_the_end() -> None:
    asked = a_run(state=RunState.CLAIMED, owner=Peer("w"), cancel_requested=True, cancelled_by="alice")
    assert status_message(asked) == {
        "message": 'Cancellation requested with the API key "alice"; waiting for worker w.'
    }
    done = status_message(a_run(state=RunState.SUCCEEDED, cancel_requested=True, message="done"))
    assert done == {"message": "done"}


def test_a_wish_to_cancel_at_a_public_worker_says_when_it_ends() -> None:
    asked = a_run(
        state=RunState.CLAIMED,
        owner=Peer("w"),
        cancel_requested=True,
        away_since=CREATED,
        lease_until=CREATED + micros(600),
    )
    assert status_message(asked) == {
        "message": "Cancellation requested; waiting for worker w, until 2026-01-02T03:14:05.000000Z at most: "
        "it need not confirm that the task stopped."
    }
    ours = replace(asked, owner=Peer("w", "direct", "i"))
    assert status_message(ours) == {"message": "Cancellation requested; waiting for worker w."}


def test_a_run_that_is_safe_to_retry_says_so() -> None:
    assert run_item(a_run(safe_to_retry=True), {})["safe_to_retry"] is True


@pytest.mark.parametrize(
    ("state", "owner", "why"),
    [
        (RunState.CLAIMED, Peer("w", "direct", "i"), ""),
        (RunState.PENDING, Peer("w"), ""),
        (
            RunState.CLAIMED,
            Peer("w"),
            ": a public worker that connects again does not say what it still runs",
        ),
    ],
)
def test_a_run_whose_worker_is_away_says_until_when_it_is_waited_for(
    state: RunState, owner: Peer, why: str
) -> None:
    away = a_run(state=state, owner=owner, away_since=CREATED, lease_until=CREATED + micros(600))
    assert status_message(away) == {
        "message": "Waiting since 2026-01-02T03:04:05.000000Z for worker w, "
        f"until 2026-01-02T03:14:05.000000Z at most{why}."
    }
