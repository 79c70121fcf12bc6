"""Background changes to many rows, in transactions so short that other writers hardly wait."""

from collections.abc import Callable
from typing import cast

from sqlalchemy import ColumnElement, Delete, Update, select, tuple_

from models.storage.database import Database

BATCH = 500
"""Maximum number of rows that a background job changes in one transaction."""


def change_batch(
    database: Database, make: Callable[[], Delete | Update], *, limit: int = BATCH
) -> bool:
    """Run a DELETE or UPDATE on up to `limit` of its rows, and return whether more may be left.

    The rows are found before the transaction starts, so searching a large table does not hold
    SQLite's write lock. Rows that another transaction has locked are skipped. The statement's
    condition must not match a changed row again.

    Raises:
        DatabaseUnavailable: The database failed. The batch is unchanged.
    """
    change = make()
    columns = tuple(change.table.primary_key)
    where = cast("ColumnElement[bool]", change.whereclause)
    query = select(*columns).where(where).limit(limit)
    found = [tuple(row) for row in database.read(lambda connection: connection.execute(query))]
    if not found:
        return False
    key = tuple_(*columns)
    # For a pair of columns alone, SQLite would read the whole index.
    among = columns[0].in_({row[0] for row in found}) & key.in_(found)
    # As a CTE, PostgreSQL reads these rows once, also if it expects none because of old statistics.
    free = select(*columns).where(among).with_for_update(skip_locked=True).cte(nesting=True)
    # The statement checks its condition again, because rows may have changed since.
    batch = change.where(key.in_(select(*free.columns)))
    changed = database.transact(
        lambda session: session.connection().execute(batch).rowcount, write=True
    )
    return changed > 0 and len(found) == limit
