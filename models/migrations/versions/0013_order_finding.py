"""Index orders by their last change, and their events by reference and tracking number."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import add_index

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    add_index("ix_orders_updated_at_id", "orders", ["updated_at", "id"])
    add_index("ix_orders_user_id_updated_at_id", "orders", ["user_id", "updated_at", "id"])
    for column in ("reference", "tracking_number"):
        present = sa.column(column).is_not(None)
        name = f"ix_order_events_{column}_order_id"
        add_index(name, "order_events", [column, "order_id"], where=present)


def downgrade() -> None:
    for column in ("reference", "tracking_number"):
        op.drop_index(op.f(f"ix_order_events_{column}_order_id"), "order_events")
    for columns in ("user_id_updated_at_id", "updated_at_id"):
        op.drop_index(op.f(f"ix_orders_{columns}"), "orders")
