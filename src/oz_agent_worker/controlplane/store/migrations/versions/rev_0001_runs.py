"""Runs, their metadata and output, API keys and workload tokens."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_STATES = (
    "QUEUED",
    "PENDING",
    "CLAIMED",
    "INPROGRESS",
    "SUCCEEDED",
    "FAILED",
    "BLOCKED",
    "ERROR",
    "CANCELLED",
)


def upgrade() -> None:
    _create_api_keys()
    _create_runs()
    _create_run_parts()


def downgrade() -> None:
    for table in ("run_logs", "workload_tokens", "run_metadata", "runs", "api_keys"):
        op.drop_table(table)


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("token_hash", name="uq_api_keys_token_hash"),
    )


def _create_runs() -> None:
    sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "runs",
        sa.Column("seq", sequence, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("execution_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("creator_id", sa.String(36), nullable=False),
        sa.Column("parent_run_id", sa.String(36)),
        sa.Column("conversation_id", sa.Text),
        sa.Column("config", sa.Text),
        sa.Column("worker_host", sa.String(255)),
        sa.Column("name", sa.Text),
        sa.Column("model_id", sa.Text),
        sa.Column("environment_id", sa.Text),
        sa.Column("skill_spec", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("worker_id", sa.String(255)),
        sa.Column("claim_deadline", sa.BigInteger),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("message", sa.Text),
        sa.Column("error_code", sa.String(64)),
        sa.Column("retryable", sa.Boolean),
        sa.Column("exit_code", sa.Integer),
        sa.PrimaryKeyConstraint("seq", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
        sa.ForeignKeyConstraint(["creator_id"], ["api_keys.id"], name="fk_runs_creator_id"),
        sa.ForeignKeyConstraint(["parent_run_id"], ["runs.id"], name="fk_runs_parent_run_id"),
        sa.CheckConstraint(
            "state IN ({})".format(", ".join(f"'{state}'" for state in _STATES)), name=op.f("ck_runs_state")
        ),
    )
    for columns in (
        ["state", "seq"],
        ["state", "not_before"],
        ["state", "claim_deadline"],
        ["updated_at", "seq"],
        ["created_at", "seq"],
        ["parent_run_id"],
    ):
        op.create_index("ix_runs_" + "_".join(columns), "runs", columns)


def _create_run_parts() -> None:
    op.create_table(
        "run_metadata",
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "key", name="pk_run_metadata"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_metadata_run_id", ondelete="CASCADE"),
    )
    op.create_index("ix_run_metadata_key_value", "run_metadata", ["key", "value"])
    op.create_table(
        "workload_tokens",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_workload_tokens"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_workload_tokens_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_workload_tokens_run_id", "workload_tokens", ["run_id"])
    op.create_table(
        "run_logs",
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("execution_id", sa.String(36), nullable=False),
        sa.Column("start", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "execution_id", "start", name="pk_run_logs"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_logs_run_id", ondelete="CASCADE"),
    )
