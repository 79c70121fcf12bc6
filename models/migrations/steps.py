"""Steps of migrations on tables that are in use, so that requests do not wait for them.

On PostgreSQL, these steps are committed separately. A migration that was interrupted begins again,
so its other steps must also work a second time. On SQLite, all migrations are one transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op


@contextmanager
def separate_steps() -> Iterator[sa.Connection]:
    """Commit each statement of the block at once, so that none keeps locks for the next ones."""
    if op.get_bind().dialect.name == "sqlite":
        yield op.get_bind()
        return
    with op.get_context().autocommit_block():
        yield op.get_bind()


def add_column(table: str, column: sa.Column[object]) -> None:
    """Add a column, unless an interrupted migration has added it already."""
    op.add_column(table, column, if_not_exists=op.get_bind().dialect.name != "sqlite" or None)


def add_index(
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    where: sa.ColumnElement[bool] | None = None,
) -> None:
    """Add an index to an existing table while other transactions write to the table."""
    with separate_steps() as connection:
        if connection.dialect.name != "sqlite":
            # CREATE INDEX CONCURRENTLY waits for transactions, but nobody waits for it.
            connection.exec_driver_sql("SET lock_timeout = 0")
            # An interrupted attempt leaves an invalid index.
            op.drop_index(op.f(name), table, postgresql_concurrently=True, if_exists=True)
        op.create_index(
            op.f(name),
            table,
            columns,
            postgresql_concurrently=True,
            postgresql_where=where,
            sqlite_where=where,
        )
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("RESET lock_timeout")
