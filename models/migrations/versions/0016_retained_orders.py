"""Record since when ended orders keep personal data."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_ENDED = ("delivered", "cancelled", "expired", "refunded")

_orders = sa.table(
    "orders", *(sa.column(name) for name in ("user_id", "status", "updated_at", "retained_since"))
)
_users = sa.table("users", sa.column("id"), sa.column("erased_at"))


def upgrade() -> None:
    op.add_column("orders", sa.Column("retained_since", sa.DateTime(timezone=True)))
    present = sa.text("retained_since IS NOT NULL")
    op.create_index(
        op.f("ix_orders_retained_since"),
        "orders",
        ["retained_since"],
        postgresql_where=present,
        sqlite_where=present,
    )
    erased = sa.select(_users.c.id).where(_users.c.erased_at.is_not(None))
    op.execute(
        sa.update(_orders)
        .where(_orders.c.status.in_(_ENDED), _orders.c.user_id.not_in(erased))
        .values(retained_since=_orders.c.updated_at)
    )
