"""Add recovery versions to accounts and links, and limits on messages per mailbox."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "users", sa.Column("recovery_version", sa.Integer(), nullable=False, server_default="1")
    )
    # An earlier release leaves this null; its links are revoked with the account's tokens, as
    # before.
    op.add_column("one_time_tokens", sa.Column("recovery_version", sa.Integer()))
    op.create_table(
        "mailbox_uses",
        sa.Column("mailbox", sa.LargeBinary(32), nullable=False),
        sa.Column("allowance", sa.String(16), nullable=False),
        sa.Column("used_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", "allowance", name=op.f("pk_mailbox_uses")),
    )
    op.create_index(op.f("ix_mailbox_uses_used_until"), "mailbox_uses", ["used_until"])


def downgrade() -> None:
    op.drop_table("mailbox_uses")
    op.drop_column("one_time_tokens", "recovery_version")
    op.drop_column("users", "recovery_version")
