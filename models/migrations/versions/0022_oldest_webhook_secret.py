"""Keep the oldest valid secret of a webhook endpoint when its secret is replaced repeatedly."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import add_column

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    add_column("webhook_endpoints", sa.Column("oldest_secret", sa.LargeBinary(), nullable=True))
    add_column(
        "webhook_endpoints", sa.Column("oldest_until", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("webhook_endpoints", "oldest_until")
    op.drop_column("webhook_endpoints", "oldest_secret")
