"""Alembic's entry point: runs migrations on the connection of `models.storage.migrating`."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # On PostgreSQL, each migration is committed separately, so that a long upgrade can be resumed.
    # On SQLite, all of them run in the transaction that holds the write lock.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
