"""Keep the events of payment providers."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "payment_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("order_id", sa.Uuid()),
        sa.Column("reference", sa.String(100), nullable=False),
        sa.Column("money", sa.BigInteger()),
        sa.Column("currency", sa.String(3)),
        sa.Column("refusal", sa.String(200)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('payment', 'bounce')", name=op.f("ck_payment_events_kind")),
        sa.CheckConstraint(
            "outcome IN ('applied', 'refused')", name=op.f("ck_payment_events_outcome")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_events")),
        sa.UniqueConstraint("provider", "key", name=op.f("uq_payment_events_provider_key")),
    )
    op.create_index(op.f("ix_payment_events_outcome_id"), "payment_events", ["outcome", "id"])


def downgrade() -> None:
    op.drop_table("payment_events")
