"""Search accounts by the words of their names and addresses."""

import sqlalchemy as sa
from alembic import op

from models.migrations.steps import separate_steps
from models.word_index import terms

revision = "0012"
down_revision = "0011"

_BATCH = 1000
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TERM = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")

_users = sa.table("users", *(sa.column(name) for name in ("id", "name", "email_key", "erased_at")))
_terms = sa.table("user_terms", sa.column("user_id"), sa.column("term"))


def upgrade() -> None:
    op.create_table(
        "user_terms",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("term", _TERM, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_terms_user_id")),
        sa.PrimaryKeyConstraint("user_id", "term", name=op.f("pk_user_terms")),
        if_not_exists=True,
    )
    name = op.f("ix_user_terms_term_user_id")
    op.create_index(name, "user_terms", ["term", "user_id"], if_not_exists=True)
    last = 0
    with separate_steps() as connection:
        while rows := connection.execute(
            sa.select(_users)
            .where(_users.c.id > last, _users.c.erased_at.is_(None))
            .order_by(_users.c.id)
            .limit(_BATCH)
        ).all():
            first, last = rows[0].id, rows[-1].id
            found = [
                {"user_id": row.id, "term": term}
                for row in rows
                for term in terms(f"{row.name} {row.email_key}")
            ]
            connection.execute(sa.delete(_terms).where(_terms.c.user_id.between(first, last)))
            connection.execute(sa.insert(_terms), found)


def downgrade() -> None:
    op.drop_table("user_terms")
