"""Index unverified accounts by their age."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_index(
        op.f("ix_users_created_at_id"),
        "users",
        ["created_at", "id"],
        postgresql_where=sa.text("erased_at IS NULL AND NOT email_verified"),
        sqlite_where=sa.text("erased_at IS NULL AND email_verified = 0"),
    )
