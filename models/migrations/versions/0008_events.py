"""Create the table of events."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", _ID, sa.Identity(always=True), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(48), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
        sqlite_autoincrement=True,
    )
    placed, unplaced = sa.text("position IS NOT NULL"), sa.text("position IS NULL")
    op.create_index(
        op.f("uq_events_position"),
        "events",
        ["position"],
        unique=True,
        postgresql_where=placed,
        sqlite_where=placed,
    )
    op.create_index(
        op.f("ix_events_unplaced"),
        "events",
        ["sequence"],
        postgresql_where=unplaced,
        sqlite_where=unplaced,
    )


def downgrade() -> None:
    op.drop_table("events")
