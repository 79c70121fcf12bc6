"""Create pictures of accounts and products."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "stored_pictures",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_stored_pictures")),
    )
    op.create_table(
        "picture_uses",
        sa.Column("id", _ID, sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user_id", sa.BigInteger()),
        sa.Column("product_id", sa.BigInteger()),
        sa.Column("position", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["digest"], ["stored_pictures.digest"], name=op.f("fk_picture_uses_digest")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_picture_uses_user_id")),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name=op.f("fk_picture_uses_product_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_picture_uses")),
        sa.UniqueConstraint("user_id", name=op.f("uq_picture_uses_user_id")),
    )
    op.create_index(op.f("ix_picture_uses_digest"), "picture_uses", ["digest"])
    op.create_index(
        op.f("ix_picture_uses_product_id_position"),
        "picture_uses",
        ["product_id", "position"],
        unique=True,
    )
    op.add_column("users", sa.Column("avatar", sa.String(80)))
    op.add_column("products", sa.Column("pictures", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("products", "pictures")
    op.drop_column("users", "avatar")
    op.drop_table("picture_uses")
    op.drop_table("stored_pictures")
