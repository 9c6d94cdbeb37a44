"""Runs in the form of the public API."""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState, cancellation_pending
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.times import format_duration, format_time

__all__ = ["run_item", "status_message"]


def run_item(run: Run, metadata: Mapping[str, str]) -> dict[str, Any]:
    """A ``RunItem``; members without a value are left out.

    ``worker_id``, ``execution_id``, ``exit_code`` and ``safe_to_retry`` are not public members.
    """
    creator = {"uid": run.creator_id, "display_name": run.creator_name, "type": "service_account"}
    started, ended = run.started_at, run.ended_at
    item: dict[str, Any] = {
        "run_id": run.id,
        "task_id": run.id,
        "title": run.title,
        "state": run.state.value,
        "prompt": run.prompt,
        "created_at": format_time(run.created_at),
        "updated_at": format_time(run.updated_at),
        "started_at": None if started is None else format_time(started),
        "run_time": None if started is None or ended is None else format_duration(ended - started),
        "status_message": status_message(run),
        "agent_config": Raw(run.config.encode()) if run.config else None,
        "agent_skill": {"full_path": run.skill_spec} if run.skill_spec else None,
        "source": run.source,
        "creator": creator,
        "executor": creator,
        "execution_location": "REMOTE",
        "is_run_type_cancellable": True,
        "metadata": dict(metadata) or None,
        "parent_run_id": run.parent_run_id,
        "conversation_id": run.conversation_id,
        "worker_id": run.worker_id,
        "execution_id": run.execution_id,
        "exit_code": run.exit_code,
        "safe_to_retry": run.safe_to_retry or None,
    }
    return {name: value for name, value in item.items() if value is not None}


def status_message(run: Run) -> dict[str, Any] | None:
    """The reason for a run's state; only failures have ``error_code`` and ``retryable``."""
    if run.state not in TERMINAL and run.cancel_requested:
        end = format_time(run.lease_until) if run.is_public and run.lease_until is not None else None
        return {"message": cancellation_pending(run.cancelled_by, run.worker_id, end)}
    if run.lease_until is not None and run.away_since is not None:
        since, until = format_time(run.away_since), format_time(run.lease_until)
        waiting = f"Waiting since {since} for worker {run.worker_id}, until {until} at most"
        why = ": a public worker that connects again does not say what it still runs"
        return {"message": f"{waiting}{why if run.is_public and run.state is not RunState.PENDING else ''}."}
    if run.message is None and run.error_code is None:
        return None
    shown: dict[str, Any] = {"message": run.message or run.error_code}
    if run.error_code is not None:
        shown |= {"error_code": run.error_code, "retryable": bool(run.retryable)}
    return shown
