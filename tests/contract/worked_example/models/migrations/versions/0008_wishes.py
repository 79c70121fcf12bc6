"""Create wishlists."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "wishes",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("product_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_wishes_user_id")),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=op.f("fk_wishes_product_id")),
        sa.PrimaryKeyConstraint("user_id", "product_id", name=op.f("pk_wishes")),
    )


def downgrade() -> None:
    op.drop_table("wishes")
