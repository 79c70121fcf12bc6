"""Sort and search product names in every script."""

import sqlalchemy as sa
from alembic import op

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
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        # SQLite enforces no lengths.
        op.alter_column(
            "products", "name_key", type_=sa.String(COLLATION_KEY_LENGTH, collation="C")
        )
    connection.execute(sa.delete(_terms))
    last = 0
    while rows := connection.execute(
        sa.select(_products).where(_products.c.id > last).order_by(_products.c.id).limit(_BATCH)
    ).all():
        last = rows[-1].id
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
        if found:
            connection.execute(sa.insert(_terms), found)
