"""Alembic's entry: runs the migrations on the connection that `models.migrating` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # On PostgreSQL each migration commits on its own, so a long upgrade can be resumed. On SQLite
    # all of them are inside the transaction that holds the write lock.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
