"""Record since when ended orders keep personal data."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import add_column, add_index, separate_steps

revision = "0016"
down_revision = "0015"

_BATCH = 1000
_ENDED = ("delivered", "cancelled", "expired", "refunded")

_orders = sa.table(
    "orders",
    sa.column("id", sa.Uuid()),
    *(sa.column(name) for name in ("user_id", "status", "updated_at", "retained_since")),
)
_users = sa.table("users", sa.column("id"), sa.column("erased_at"))


def upgrade() -> None:
    add_column("orders", sa.Column("retained_since", sa.DateTime(timezone=True)))
    present = sa.column("retained_since").is_not(None)
    add_index("ix_orders_retained_since", "orders", ["retained_since"], where=present)
    erased = sa.select(_users.c.id).where(_users.c.erased_at.is_not(None))
    ended = _orders.c.status.in_(_ENDED) & _orders.c.user_id.not_in(erased)
    rest = sa.select(_orders.c.id).where(ended).order_by(_orders.c.id).limit(_BATCH)
    query = rest
    with separate_steps() as connection:
        while ids := connection.scalars(query).all():
            connection.execute(
                sa.update(_orders)
                .where(ended, _orders.c.id.between(ids[0], ids[-1]))
                .values(retained_since=_orders.c.updated_at)
            )
            query = rest.where(_orders.c.id > ids[-1])


def downgrade() -> None:
    op.drop_index(op.f("ix_orders_retained_since"), "orders")
    op.drop_column("orders", "retained_since")
