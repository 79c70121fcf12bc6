"""Record when all tokens of an account ended, and index it until they are deleted."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import add_column, add_index, separate_steps

revision = "0017"
down_revision = "0016"

_BATCH = 1000

_users = sa.table(
    "users",
    *(sa.column(name) for name in ("id", "token_version", "updated_at", "erased_at")),
    sa.column("tokens_ended_at", sa.DateTime(timezone=True)),
)
_tokens = sa.table("tokens", *(sa.column(name) for name in ("user_id", "token_version")))


def upgrade() -> None:
    add_column("users", sa.Column("tokens_ended_at", sa.DateTime(timezone=True)))
    present = sa.column("tokens_ended_at").is_not(None)
    add_index("ix_users_tokens_ended_at", "users", ["tokens_ended_at"], where=present)
    of_account = _tokens.c.user_id == _users.c.id
    ended = sa.exists().where(of_account, _tokens.c.token_version != _users.c.token_version)
    chosen = ended | _users.c.erased_at.is_not(None)
    last = 0
    with separate_steps() as connection:
        while ids := connection.scalars(
            sa.select(_users.c.id).where(_users.c.id > last).order_by(_users.c.id).limit(_BATCH)
        ).all():
            last = ids[-1]
            connection.execute(
                sa.update(_users)
                .where(chosen, _users.c.id.between(ids[0], last))
                .values(tokens_ended_at=_users.c.updated_at)
            )


def downgrade() -> None:
    op.drop_index(op.f("ix_users_tokens_ended_at"), "users")
    op.drop_column("users", "tokens_ended_at")
