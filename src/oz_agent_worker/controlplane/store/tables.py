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

#: Names by rule: a later migration can drop a constraint by name in every database.
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
#: SQLite counts rows by itself only in a column declared INTEGER.
_SEQUENCE: Final = BigInteger().with_variant(Integer, "sqlite")

_AWAITED: Final = text("lease_until IS NOT NULL")

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
    # The queue: how often the run came back, and when it may be assigned again.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", BigInteger, nullable=False, server_default="0"),
    # Who has it, and until when that worker may claim it. Where it said no hello, it has no
    # backend; ``resent`` tells that another process was sent the same execution before.
    Column("worker_id", _WORKER_ID),
    Column("worker_backend", Text),
    Column("worker_instance", Text),
    Column("resent", Boolean, nullable=False, server_default=false()),
    Column("claim_deadline", BigInteger),
    # While nobody is there who certainly has it: since when, and until when it is waited for. Both move
    # on by the time in which no control plane listened.
    Column("away_since", BigInteger),
    Column("lease_until", BigInteger),
    # Whether it may be run again, and how often it was: each time as a fresh execution.
    Column("safe_to_retry", Boolean, nullable=False, server_default=false()),
    Column("retries", Integer, nullable=False, server_default="0"),
    # Whether it shall be cancelled, and the name of the API key that asked for it.
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
    # Only runs that somebody waits for: those in good hands cost it nothing.
    Index(None, "lease_until", sqlite_where=_AWAITED, postgresql_where=_AWAITED),
    Index(None, "updated_at", "seq"),
    Index(None, "created_at", "seq"),
    Index(None, "parent_run_id"),
)

#: When it was last noted that a control plane listens: one row, none before the first start.
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

#: Output as bytes: PostgreSQL's text holds no NUL, and a program may print one.
run_logs: Final = Table(
    "run_logs",
    metadata,
    Column("run_id", _ID, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("execution_id", _ID, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
