"""Sort and search product names in every script."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import separate_steps
from models.text import COLLATION_KEY_LENGTH, collation_key
from models.word_index import terms

revision = "0007"
down_revision = "0006"

_BATCH = 1000

_products = sa.table(
    "products",
    *(sa.column(name) for name in ("id", "sku", "name", "name_key", "archived_at")),
)
_terms = sa.table("product_terms", sa.column("product_id"), sa.column("term"))


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # SQLite enforces no lengths.
        _set_length(COLLATION_KEY_LENGTH)
    last = 0
    with separate_steps() as connection:
        while rows := connection.execute(
            sa.select(_products).where(_products.c.id > last).order_by(_products.c.id).limit(_BATCH)
        ).all():
            first, last = rows[0].id, rows[-1].id
            keys = [{"row": row.id, "key": collation_key(row.name)} for row in rows]
            connection.execute(
                sa.update(_products)
                .where(_products.c.id == sa.bindparam("row"))
                .values(name_key=sa.bindparam("key")),
                keys,
            )
            found = [
                {"product_id": row.id, "term": term}
                for row in rows
                for term in terms(f"{row.name} {row.sku}")
            ]
            connection.execute(sa.delete(_terms).where(_terms.c.product_id.between(first, last)))
            if found:
                connection.execute(sa.insert(_terms), found)


def downgrade() -> None:
    """Shorten the keys to their old length. They still sort, and the words of names stay."""
    op.execute(sa.update(_products).values(name_key=sa.func.substr(_products.c.name_key, 1, 48)))
    if op.get_bind().dialect.name == "postgresql":
        _set_length(48)


def _set_length(length: int) -> None:
    op.alter_column("products", "name_key", type_=sa.String(length, collation="C"))
