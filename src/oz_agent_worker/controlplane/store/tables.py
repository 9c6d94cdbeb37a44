"""The tables as SQLAlchemy Core describes them. Times are microseconds since the epoch."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

from oz_agent_worker.controlplane.rules.run_states import RunState

__all__ = ["api_keys", "lease_checkpoint", "metadata", "run_logs", "run_metadata", "runs", "workload_tokens"]

#: A naming rule, so that a later migration can drop a constraint by name in every database.
metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID: Final = String(36)
_WORKER_ID: Final = String(255)
#: SQLite numbers rows itself only in a column declared INTEGER.
_SEQUENCE: Final = BigInteger().with_variant(Integer, "sqlite")

_LEASED: Final = text("lease_until IS NOT NULL")

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

runs: Final = Table(
    "runs",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("id", _ID, nullable=False, unique=True),
    Column("execution_id", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("source", String(32), nullable=False),
    Column("creator_id", _ID, ForeignKey("api_keys.id"), nullable=False),
    Column("parent_run_id", _ID, ForeignKey("runs.id")),
    Column("conversation_id", Text),
    # The configuration as JSON, then the members of it that lists filter and sort by.
    Column("config", Text),
    Column("worker_host", _WORKER_ID),
    Column("name", Text),
    Column("model_id", Text),
    Column("environment_id", Text),
    Column("skill_spec", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    # The queue: how often the run came back to it, and when the run may be assigned again.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", BigInteger, nullable=False, server_default="0"),
    # The owner, and until when it may claim the run. A worker that sent no hello has no backend;
    # ``resent``: another process was sent the same execution before.
    Column("worker_id", _WORKER_ID),
    Column("worker_backend", Text),
    Column("worker_instance", Text),
    Column("resent", Boolean, nullable=False, server_default=false()),
    Column("claim_deadline", BigInteger),
    # The lease, while no open connection certainly has the run: its begin and end. Both are moved
    # by the time in which no control plane ran.
    Column("away_since", BigInteger),
    Column("lease_until", BigInteger),
    # Whether it may be started again, and how often it was, each time as another execution.
    Column("safe_to_retry", Boolean, nullable=False, server_default=false()),
    Column("retries", Integer, nullable=False, server_default="0"),
    # Whether its cancellation was requested, and the name of the API key of that request.
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("cancelled_by", Text),
    Column("message", Text),
    Column("error_code", String(64)),
    Column("retryable", Boolean),
    Column("exit_code", Integer),
    CheckConstraint("state IN ({})".format(", ".join(f"'{s}'" for s in RunState)), name="state"),
    Index(None, "state", "seq"),
    Index(None, "state", "not_before"),
    Index(None, "state", "claim_deadline"),
    # Only runs with a lease: the others add nothing to this index.
    Index(None, "lease_until", sqlite_where=_LEASED, postgresql_where=_LEASED),
    Index(None, "updated_at", "seq"),
    Index(None, "created_at", "seq"),
    Index(None, "parent_run_id"),
)

#: The last time at which a control plane certainly ran: one row, none before the first start.
lease_checkpoint: Final = Table(
    "lease_checkpoint",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("taken_at", BigInteger, nullable=False),
)

run_metadata: Final = Table(
    "run_metadata",
    metadata,
    Column("run_id", _ID, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "key", "value"),
)

workload_tokens: Final = Table(
    "workload_tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("run_id", _ID, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
)

#: Output as bytes: a program may print NUL, which text in PostgreSQL cannot contain.
run_logs: Final = Table(
    "run_logs",
    metadata,
    Column("run_id", _ID, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("execution_id", _ID, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
