"""Record whether returned goods were restocked."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("order_events", sa.Column("restocked", sa.Boolean()))


def downgrade() -> None:
    op.drop_column("order_events", "restocked")
