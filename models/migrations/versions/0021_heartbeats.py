"""Create the table of heartbeats, which show how current a replica of PostgreSQL is."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("process", sa.Uuid(), nullable=False),
        sa.Column("beat", sa.Double(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("pk_heartbeats")),
    )


def downgrade() -> None:
    op.drop_table("heartbeats")
