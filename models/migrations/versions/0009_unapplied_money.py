"""Record money that is not applied to an order, and payments that bounce."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for name in ("bounced", "unapplied"):
        # Only a column can bring a constraint to an existing table on SQLite.
        op.execute(
            f"ALTER TABLE orders ADD COLUMN {name}_amount BIGINT DEFAULT '0' NOT NULL"
            f" CONSTRAINT ck_orders_{name} CHECK ({name}_amount >= 0)"
        )
    op.add_column(
        "orders",
        sa.Column("unapplied_refunded_amount", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.add_column("order_events", sa.Column("unapplied_amount", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("order_events", "unapplied_amount")
    for name in ("unapplied_refunded_amount", "unapplied_amount", "bounced_amount"):
        op.drop_column("orders", name)
