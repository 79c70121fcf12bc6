"""Create the tables of tokens, one-time tokens, second factors, messages and audit events."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f(f"fk_{table}_user_id"))


def upgrade() -> None:
    op.add_column(
        "users",
        sa.Column(
            "password_change_required", sa.Boolean(), nullable=False, server_default=sa.false()
        ),
    )
    _create_tokens()
    _create_one_time_tokens()
    _create_second_factors()
    _create_messages()
    _create_audit_events()


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(100)),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(32)),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(45)),
        sa.Column("user_agent", sa.String(200)),
        _time("created_at"),
        _time("last_used_at"),
        _time("expires_at"),
        _time("ended_at", nullable=True),
        sa.CheckConstraint("kind IN ('session', 'api_key')", name=op.f("ck_tokens_kind")),
        _user("tokens"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_tokens_key_hash")),
    )
    op.create_index(op.f("ix_tokens_user_id_id"), "tokens", ["user_id", "id"])
    op.create_index(op.f("ix_tokens_expires_at"), "tokens", ["expires_at"])
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index(
        op.f("ix_tokens_ended_at"),
        "tokens",
        ["ended_at"],
        postgresql_where=ended,
        sqlite_where=ended,
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        _time("created_at"),
        _time("used_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["tokens.id"],
            name=op.f("fk_refresh_tokens_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_refresh_tokens")),
    )
    op.create_index(op.f("ix_refresh_tokens_session_id"), "refresh_tokens", ["session_id"])


def _create_one_time_tokens() -> None:
    op.create_table(
        "one_time_tokens",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("purpose", sa.String(24), nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("token_version", sa.Integer(), nullable=False),
        _time("created_at"),
        _time("expires_at"),
        _user("one_time_tokens"),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_one_time_tokens")),
    )
    op.create_index(
        op.f("ix_one_time_tokens_user_id_purpose"), "one_time_tokens", ["user_id", "purpose"]
    )
    op.create_index(op.f("ix_one_time_tokens_expires_at"), "one_time_tokens", ["expires_at"])


def _create_second_factors() -> None:
    op.create_table(
        "second_factors",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(128), nullable=False),
        _time("created_at"),
        _time("confirmed_at", nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("locked_until", nullable=True),
        _user("second_factors"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_second_factors")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        _user("recovery_codes"),
        sa.PrimaryKeyConstraint("user_id", "hash", name=op.f("pk_recovery_codes")),
    )


def _create_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", _ID),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("address", sa.String(45)),
        sa.Column("request_id", sa.String(128)),
        sa.Column("token_version", sa.Integer()),
        _time("created_at"),
        _time("due_at"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _user("messages"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index(op.f("ix_messages_due_at"), "messages", ["due_at"])
    op.create_index(op.f("ix_messages_user_id"), "messages", ["user_id"])


def _create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("actor_id", _ID),
        sa.Column("user_id", _ID),
        sa.Column("token_id", sa.Uuid()),
        sa.Column("address", sa.String(45)),
        sa.Column("request_id", sa.String(128)),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    for columns in (
        *(["user_id", "id"], ["action", "id"], ["user_id", "action", "id"]),
        ["actor_id"],
    ):
        op.create_index(op.f(f"ix_audit_events_{'_'.join(columns)}"), "audit_events", columns)


def downgrade() -> None:
    for table in (
        *("audit_events", "messages", "recovery_codes", "second_factors"),
        *("one_time_tokens", "refresh_tokens", "tokens"),
    ):
        op.drop_table(table)
    op.drop_column("users", "password_change_required")
