"""Runs: creating, reading, and moving them between states.

``move`` is the only place where a state changes. A trigger in the database refuses every move
that ``run_states.TRANSITIONS`` does not have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, func, insert, select, update

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, TERMINAL, RunOutcome, RunState, can_move

from .in_list import padded
from .keys import drop_workload_tokens
from .tables import api_keys, run_metadata, runs

__all__ = [
    "NewRun",
    "Run",
    "change",
    "create",
    "end",
    "exists",
    "get",
    "get_all",
    "lock_run",
    "lock_runs",
    "metadata_of",
    "move",
    "owned_by",
    "owner_values",
    "records",
    "select_runs",
    "set_holder",
    "to_run",
]


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """The values of a run that its creator sets. ``config`` is JSON text."""

    id: str
    execution_id: str
    title: str
    prompt: str
    source: str
    creator_id: str
    parent_run_id: str | None = None
    conversation_id: str | None = None
    config: str | None = None
    worker_host: str | None = None
    name: str | None = None
    model_id: str | None = None
    environment_id: str | None = None
    skill_spec: str | None = None
    safe_to_retry: bool = False


@dataclass(frozen=True, kw_only=True)
class Run(NewRun, RunRecord):
    """A run as it is stored. Times are microseconds since the epoch."""

    seq: int
    creator_name: str
    created_at: int
    updated_at: int
    ended_at: int | None
    message: str | None
    error_code: str | None
    retryable: bool | None
    exit_code: int | None


#: The owner of a run's current execution: the fields of ``Peer``.
_OWNER: Final = (runs.c.worker_id, runs.c.worker_backend, runs.c.worker_instance)
_RUN_FIELDS: Final = [f.name for f in fields(Run) if f.name != "owner"]
_RUN_COLUMNS: Final = [runs.c[name] for name in _RUN_FIELDS if name not in ("creator_name", "prompt")]
_RECORD_FIELDS: Final = [f.name for f in fields(RunRecord) if f.name != "owner"]
#: Built once: SQLAlchemy then finds the compiled statement without walking through its parts.
_RECORDS: Final = select(*(runs.c[name] for name in _RECORD_FIELDS), *_OWNER)
_LOCKED_RECORD: Final = _RECORDS.where(runs.c.id == bindparam("run_id")).with_for_update()
_CHANGE: Final = update(runs).where(runs.c.id == bindparam("run_id"))


def select_runs(prompt_length: int | None = None) -> Select[Any]:
    """A SELECT of the fields of Run, with at most ``prompt_length`` characters of the prompt."""
    prompt = func.substr(runs.c.prompt, 1, prompt_length) if prompt_length else runs.c.prompt
    shown = select(*_RUN_COLUMNS, *_OWNER, prompt.label("prompt"), api_keys.c.name.label("creator_name"))
    return shown.select_from(runs.join(api_keys))


def to_run(row: RowMapping) -> Run:
    """One row of ``select_runs`` as a Run; other columns are ignored."""
    return Run(**_values(row, _RUN_FIELDS))


def _values(row: RowMapping, names: Sequence[str]) -> dict[str, Any]:
    worker_id, backend, instance = (row[column.name] for column in _OWNER)
    owner = None if worker_id is None else Peer(worker_id, backend, instance)
    return {name: row[name] for name in names} | {"state": RunState(row["state"]), "owner": owner}


def create(connection: Connection, new: NewRun, metadata: Mapping[str, str], now: int) -> None:
    """Put a run into the queue."""
    values = {f.name: getattr(new, f.name) for f in fields(NewRun)}
    values |= {"state": RunState.QUEUED.value, "created_at": now, "updated_at": now}
    connection.execute(insert(runs), values)
    if metadata:
        rows = [{"run_id": new.id, "key": key, "value": value} for key, value in metadata.items()]
        connection.execute(insert(run_metadata), rows)


def exists(connection: Connection, run_id: str) -> bool:
    """Whether a run has this ID."""
    return connection.execute(select(runs.c.seq).where(runs.c.id == run_id)).first() is not None


def get(connection: Connection, run_id: str) -> Run | None:
    """One run with its whole prompt."""
    row = connection.execute(select_runs().where(runs.c.id == run_id)).mappings().one_or_none()
    return to_run(row) if row else None


def get_all(connection: Connection, run_ids: Sequence[str]) -> list[Run]:
    """Runs with their whole prompts, oldest first."""
    statement = select_runs().where(runs.c.id.in_(padded(run_ids))).order_by(runs.c.seq)
    return [to_run(row) for row in connection.execute(statement).mappings()]


def records(
    connection: Connection,
    *conditions: ColumnElement[bool],
    order_by: ColumnElement[Any] = runs.c.seq,
    limit: int | None = None,
) -> list[RunRecord]:
    """The records of the runs that meet ``conditions``, oldest first by default."""
    statement = _RECORDS.where(*conditions).order_by(order_by).limit(limit)
    return [RunRecord(**_values(row, _RECORD_FIELDS)) for row in connection.execute(statement).mappings()]


def metadata_of(connection: Connection, run_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The metadata of runs by run ID; a run without metadata is absent."""
    found: dict[str, dict[str, str]] = {}
    statement = select(run_metadata).where(run_metadata.c.run_id.in_(padded(run_ids)))
    for row in connection.execute(statement.order_by(run_metadata.c.run_id, run_metadata.c.key)):
        found.setdefault(row.run_id, {})[row.key] = row.value
    return found


def lock_run(connection: Connection, run_id: str) -> RunRecord | None:
    """Read a run's record and lock it until the transaction ends.

    PostgreSQL locks the row. SQLite has no row locks and needs none: it has one writer. An ID with
    NUL is nobody's: a worker may send one, and PostgreSQL refuses to look for it.
    """
    if "\0" in run_id:
        return None
    row = connection.execute(_LOCKED_RECORD, {"run_id": run_id}).mappings().one_or_none()
    if row is None:
        return None
    return RunRecord(**_values(row, _RECORD_FIELDS))


def lock_runs(connection: Connection, run_ids: Iterable[str]) -> Iterator[RunRecord]:
    """Read and lock runs, each when its turn comes; unknown IDs are skipped."""
    for run_id in run_ids:
        run = lock_run(connection, run_id)
        if run is not None:
            yield run


def owner_values(owner: Peer | None) -> dict[str, Any]:
    """The columns by which ``owner`` owns a run's execution; None: no owner."""
    values = (owner.worker_id, owner.backend, owner.instance) if owner else (None, None, None)
    return dict(zip([column.name for column in _OWNER], values, strict=True))


def move(connection: Connection, run: RunRecord, target: RunState, now: int, **values: Any) -> None:
    """Move a run that the caller has locked into ``target``, and set ``values`` too.

    Raises:
        ValueError: ``run_states.TRANSITIONS`` has no such move.
    """
    if not can_move(run.state, target):
        raise ValueError(f"run {run.id} cannot move from {run.state} to {target}")
    values |= {"state": target.value, "updated_at": now}
    if target in (RunState.CLAIMED, RunState.INPROGRESS) and run.started_at is None:
        values["started_at"] = now
    if target is not RunState.PENDING:
        values["claim_deadline"] = None
    if target not in IN_FLIGHT:
        values |= {"lease_until": None, "away_since": None}
    if target in TERMINAL:
        values["ended_at"] = now
        drop_workload_tokens(connection, run.id)
    change(connection, run, **values)


def end(connection: Connection, run: RunRecord, outcome: RunOutcome, now: int, **values: Any) -> None:
    """Move a run that the caller has locked into the terminal state of ``outcome``."""
    values |= {"message": outcome.message or None, "error_code": outcome.error_code}
    values |= {"retryable": outcome.retryable, "exit_code": outcome.exit_code}
    move(connection, run, outcome.state, now, **values)


def change(connection: Connection, run: RunRecord, **values: Any) -> None:
    """Set other values than the state of a run that the caller has locked."""
    connection.execute(_CHANGE, {"run_id": run.id, **values})


def owned_by(peer: Peer) -> dict[str, Any]:
    """The values of a run that ``peer`` owns and certainly has: it has no lease."""
    return owner_values(peer) | {"lease_until": None, "away_since": None}


def set_holder(connection: Connection, run: RunRecord, peer: Peer) -> None:
    """Record that ``peer`` has a run that the caller has locked, and leave its state.

    A public worker that was asked to cancel the run has no longer for that because it claims it again.
    """
    values = owner_values(peer) if run.cancel_requested and not peer.sent_hello else owned_by(peer)
    if run.owner != peer or run.lease_until is not None:
        change(connection, run, **values)
