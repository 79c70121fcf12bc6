"""Index unverified accounts by their age."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import add_index

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    unverified = ~sa.column("email_verified", sa.Boolean())
    add_index(
        "ix_users_created_at_id",
        "users",
        ["created_at", "id"],
        where=sa.and_(sa.column("erased_at").is_(None), unverified),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_users_created_at_id"), "users")
