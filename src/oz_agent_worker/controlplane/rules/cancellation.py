"""What is said of a cancellation: who asked for it, and how far it came."""

import json

from .messages import storable

__all__ = ["cancellation_pending", "cancelled_by_worker", "cancelled_sentence"]


def cancelled_sentence(asked_by: str | None, how: str) -> str:
    """The message of a run that is cancelled because somebody asked for it.

    ``asked_by`` is the name of the API key, None where it is not known; ``how`` tells in
    what way the run ended, as a clause.
    """
    return storable(f"Cancelled{_with(asked_by)}; {how}.")


def cancelled_by_worker(worker_id: str, reason: str, *, asked_by: str | None, asked: bool) -> str:
    """The message of a run that its worker reports as cancelled, for a ``reason`` of its own words.

    Where it was asked to (``asked``), its reason is the echo of that; else it is all that is known.
    """
    if asked:
        return cancelled_sentence(asked_by, f"worker {worker_id} stopped it")
    said = reason.strip().rstrip(".")
    return storable(f"Cancelled by worker {worker_id}{f': {said}' if said else ''}.")


def cancellation_pending(asked_by: str | None, worker_id: str | None) -> str:
    """What is said while a worker has not confirmed yet that a run has stopped."""
    waiting = f"worker {worker_id}" if worker_id else "its worker"
    return f"Cancellation requested{_with(asked_by)}; waiting for {waiting}."


def _with(asked_by: str | None) -> str:
    # Quoted as JSON is, so that no name passes for more than a name.
    return f" with the API key {json.dumps(asked_by, ensure_ascii=False)}" if asked_by else ""
