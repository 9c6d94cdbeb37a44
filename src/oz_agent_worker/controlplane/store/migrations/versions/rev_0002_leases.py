"""Leases, owners and retries of runs; a trigger that enforces the moves between states."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

#: ``run_states.TRANSITIONS`` at this revision: a migration does not change when the program does.
#: The trigger refuses every move that is not listed.
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "QUEUED": ("CANCELLED", "CLAIMED", "ERROR", "FAILED", "INPROGRESS", "PENDING", "SUCCEEDED"),
    "PENDING": ("CANCELLED", "CLAIMED", "ERROR", "FAILED", "INPROGRESS", "QUEUED", "SUCCEEDED"),
    "CLAIMED": ("CANCELLED", "ERROR", "FAILED", "INPROGRESS", "PENDING", "QUEUED", "SUCCEEDED"),
    "INPROGRESS": ("CANCELLED", "ERROR", "FAILED", "QUEUED", "SUCCEEDED"),
}

_REFUSAL = "a run cannot make this move between states"


def upgrade() -> None:
    for column in _columns():
        op.add_column("runs", column)
    awaited = sa.text("lease_until IS NOT NULL")
    op.create_index(
        "ix_runs_lease_until", "runs", ["lease_until"], sqlite_where=awaited, postgresql_where=awaited
    )
    for statement in _TRIGGER[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    on = " ON runs" if op.get_bind().dialect.name == "postgresql" else ""
    op.execute(f"DROP TRIGGER runs_state_moves{on}")
    if on:
        op.execute("DROP FUNCTION runs_refuse_move()")
    op.drop_index("ix_runs_lease_until", "runs")
    for column in reversed(_columns()):
        op.drop_column("runs", column.name)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("worker_backend", sa.Text),
        sa.Column("worker_instance", sa.Text),
        sa.Column("resent", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("away_since", sa.BigInteger),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("safe_to_retry", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("retries", sa.Integer, nullable=False, server_default="0"),
    ]


def _allowed() -> str:
    """The moves of the table as a condition on OLD and NEW."""
    rows = (
        f"(OLD.state = '{source}' AND NEW.state IN ({', '.join(map(repr, targets))}))"
        for source, targets in TRANSITIONS.items()
    )
    return " OR ".join(rows)


_CONDITION = f"OLD.state <> NEW.state AND NOT ({_allowed()})"
_TRIGGER: dict[str, tuple[str, ...]] = {
    "sqlite": (
        f"CREATE TRIGGER runs_state_moves BEFORE UPDATE OF state ON runs WHEN {_CONDITION} "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION runs_refuse_move() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'check_violation'; END $$",
        f"CREATE TRIGGER runs_state_moves BEFORE UPDATE OF state ON runs FOR EACH ROW "
        f"WHEN ({_CONDITION}) EXECUTE FUNCTION runs_refuse_move()",
    ),
}
