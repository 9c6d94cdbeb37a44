"""The checkpoint of leases, and the API key that requested a cancellation."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "lease_checkpoint",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lease_checkpoint"),
        sa.CheckConstraint("id = 1", name=op.f("ck_lease_checkpoint_one_row")),
    )
    op.add_column("runs", sa.Column("cancelled_by", sa.Text))


def downgrade() -> None:
    op.drop_column("runs", "cancelled_by")
    op.drop_table("lease_checkpoint")
