"""Index orders by their last change, and their events by reference and tracking number."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_index(op.f("ix_orders_updated_at_id"), "orders", ["updated_at", "id"])
    op.create_index(
        op.f("ix_orders_user_id_updated_at_id"), "orders", ["user_id", "updated_at", "id"]
    )
    for column in ("reference", "tracking_number"):
        present = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            op.f(f"ix_order_events_{column}_order_id"),
            "order_events",
            [column, "order_id"],
            postgresql_where=present,
            sqlite_where=present,
        )
