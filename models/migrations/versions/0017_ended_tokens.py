"""Record when all tokens of an account ended, and index it until they are deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_users = sa.table(
    "users",
    *(sa.column(name) for name in ("id", "token_version", "updated_at", "erased_at")),
    sa.column("tokens_ended_at", sa.DateTime(timezone=True)),
)
_tokens = sa.table("tokens", *(sa.column(name) for name in ("user_id", "token_version")))


def upgrade() -> None:
    op.add_column("users", sa.Column("tokens_ended_at", sa.DateTime(timezone=True)))
    present = sa.text("tokens_ended_at IS NOT NULL")
    op.create_index(
        op.f("ix_users_tokens_ended_at"),
        "users",
        ["tokens_ended_at"],
        postgresql_where=present,
        sqlite_where=present,
    )
    of_account = _tokens.c.user_id == _users.c.id
    ended = sa.exists().where(of_account, _tokens.c.token_version != _users.c.token_version)
    op.execute(
        sa.update(_users)
        .where(ended | _users.c.erased_at.is_not(None))
        .values(tokens_ended_at=_users.c.updated_at)
    )
