"""Outcomes and claims as frames: the public ones, and those for a peer that negotiated more."""

import json
from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason, RejectionReason
from oz_agent_worker.protocol.frames import TaskFailed, encode_frame
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport, claim, rejection, terminal_frame
from oz_agent_worker.protocol.task_text import TaskText

from .public_schema import FAILURE_REASONS

KEY = ExecutionKey("run-1", "exec-1")


@pytest.mark.parametrize(
    ("key", "text"), [(ExecutionKey("run", "run"), "run"), (ExecutionKey("run", "e2"), "run/e2")]
)
def test_a_key_prints_the_execution_where_it_has_a_name_of_its_own(key: ExecutionKey, text: str) -> None:
    assert str(key) == text


def test_claim() -> None:
    assert json.loads(encode_frame(claim(KEY, "w", extended=False))) == {
        "type": "task_claimed",
        "data": {"task_id": "run-1", "worker_id": "w"},
    }
    assert json.loads(encode_frame(claim(KEY, "w", extended=True))) == {
        "type": "task_claimed",
        "data": {"task_id": "run-1", "worker_id": "w", "execution_id": "exec-1"},
    }


@pytest.mark.parametrize("reason", RejectionReason)
def test_a_public_peer_gets_the_public_reason_of_a_rejection(reason: RejectionReason) -> None:
    assert rejection(KEY, reason, extended=False).reason == "at_capacity"
    assert rejection(KEY, reason, extended=True).reason == reason


@pytest.mark.parametrize("reason", FailureReason)
def test_a_public_peer_gets_public_failure_reasons_alone(reason: FailureReason) -> None:
    report = TerminalReport(KEY, failed(reason, "it broke"))
    public, extended = terminal_frame(report, ack_id=None), terminal_frame(report, ack_id="a1")
    assert isinstance(public, TaskFailed)
    assert isinstance(extended, TaskFailed)
    assert public.failure_reason in FAILURE_REASONS
    assert (public.failure_reason, extended.failure_reason) == (reason.public, reason)
    assert public.message == extended.message == "it broke"


def test_rejection() -> None:
    assert json.loads(encode_frame(rejection(KEY, "at_capacity", extended=False))) == {
        "type": "task_rejected",
        "data": {"task_id": "run-1", "reason": "at_capacity"},
    }
    assert json.loads(encode_frame(rejection(KEY, "at_capacity", extended=True))) == {
        "type": "task_rejected",
        "data": {"task_id": "run-1", "reason": "at_capacity", "execution_id": "exec-1"},
    }


COMPLETED = "task_completed"
FAILED = "task_failed"


@pytest.mark.parametrize(
    ("outcome", "kind", "data"),
    [
        (succeeded("fine"), COMPLETED, {"message": "fine"}),
        (cancelled("stopped"), COMPLETED, {"message": "stopped", "task_state": "CANCELLED"}),
        (Outcome(TaskResult.DISPATCHED, "handed on"), COMPLETED, {"message": "handed on"}),
        (
            failed(FailureReason.CONTAINER_EXIT, "it broke", exit_code=137),
            FAILED,
            {"message": "it broke", "failure_reason": "container_exit", "exit_code": 137},
        ),
        (
            failed(FailureReason.UNSCHEDULABLE, "no node"),
            FAILED,
            {"message": "no node", "failure_reason": "unschedulable"},
        ),
        (
            failed(FailureReason.JOB_FAILED, "odd", exit_code=0),
            FAILED,
            {"message": "odd", "failure_reason": "job_failed"},
        ),
        (Outcome(TaskResult.FAILED, "no reason"), FAILED, {"message": "no reason"}),
        (
            failed(FailureReason.SETUP_COMMAND, "it broke", task_text=TaskText("no such host")),
            FAILED,
            {"message": "it broke; in its own words: no such host", "failure_reason": "setup_command"},
        ),
    ],
)
def test_terminal_frames(outcome: Outcome, kind: str, data: dict[str, Any]) -> None:
    report = TerminalReport(KEY, outcome)
    public = json.loads(encode_frame(terminal_frame(report, ack_id=None)))
    assert public == {"type": kind, "data": {"task_id": "run-1", **data}}
    extended = json.loads(encode_frame(terminal_frame(report, ack_id="a1")))
    assert extended == {
        "type": kind,
        "data": {"task_id": "run-1", **data, "execution_id": "exec-1", "ack_id": "a1"},
    }


def test_a_message_that_is_no_text_can_be_sent() -> None:
    # What os.fsdecode makes of a file name that is not UTF-8 (PEP 383).
    report = TerminalReport(KEY, failed(FailureReason.UNKNOWN, "no file \udcff"))
    frame = json.loads(encode_frame(terminal_frame(report, ack_id=None)))
    assert frame["data"]["message"] == "no file ?"


def test_only_an_extended_peer_hears_what_happened() -> None:
    """K5: towards the public service the frames are exactly the public ones."""
    public = json.loads(encode_frame(rejection(KEY, "backend_unavailable", "no \udcff", extended=False)))
    assert public["data"] == {"task_id": "run-1", "reason": "at_capacity"}
    extended = json.loads(encode_frame(rejection(KEY, "backend_unavailable", "no \udcff", extended=True)))
    assert extended["data"] == {
        "task_id": "run-1",
        "reason": "backend_unavailable",
        "message": "no ?",
        "execution_id": "exec-1",
    }
