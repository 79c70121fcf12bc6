"""PostgreSQL through psycopg 3, the database for production."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from sqlalchemy import URL, Connection, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError

from models.backend import Engines, Fault, Limits
from models.errors import DatabaseUnavailable

_Arguments: TypeAlias = dict[str, Any]  # SQLAlchemy's own type of what a driver is opened with.

# SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_CONFLICT = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_READ_ONLY = "25006"  # read-only transaction
_UNAVAILABLE = frozenset({"25P03", "55P03"})  # idle in transaction, lock not available
# Connection lost, resources exhausted, operator intervention, system error.
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58"})

_LONGEST_SILENCE = "30s"  # between two statements of a transaction
_MIGRATION_LOCK = 0x436F6E636F7264
"""The key of the advisory lock: "Concord" in ASCII."""


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that does not wait for ever.

    `statement_timeout` is kept by the server, so it is no help when the server is paused or the
    network swallows packets. This limit is kept here.
    """

    patience: float | None = None
    """Seconds that one exchange with the server may take."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an exchange; close the connection if the server never answers."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            # The answer is still owed: nothing else can be asked on this connection.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def connect(url: URL, limits: Limits) -> Engines:
    """Prepare a pool. Plain `postgresql://` means psycopg 3, and `options` of the URL are kept."""
    given = url.query.get("options", "")
    options = [given if isinstance(given, str) else " ".join(given), "-c timezone=UTC"]
    # psycopg prepares a statement that it sends often, and the server would soon plan that once for
    # all values. How rare a status or a word is, and so which index is short, only a value tells.
    options.append("-c plan_cache_mode=force_custom_plan")
    options.append(f"-c lock_timeout={limits.lock_timeout * 1000:.0f}")
    options.append(f"-c statement_timeout={(limits.statement_timeout or 0) * 1000:.0f}")
    # A process that was stopped or cut off must not keep its locks for ever.
    silence = 0 if limits.statement_timeout is None else _LONGEST_SILENCE
    options.append(f"-c idle_in_transaction_session_timeout={silence}")
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={
            "connect_timeout": round(limits.connect_timeout),
            "options": " ".join(options),
        },
        isolation_level="READ COMMITTED",
        pool_size=limits.pool_size,
        max_overflow=0,
        pool_timeout=limits.pool_timeout,
        pool_pre_ping=True,
        pool_use_lifo=True,
        hide_parameters=True,
    )
    event.listen(engine, "do_connect", partial(_open, limits.statement_timeout))
    return Engines(engine.execution_options(postgresql_readonly=True), engine, engine)


def diagnose(error: DBAPIError, *, write: bool) -> Fault | None:
    """Read the SQLSTATE.

    A reading transaction that tried to write is a conflict with its own announcement; the same in
    a writing one means that the server is a standby.
    """
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state in _CONFLICT:
        return Fault.CONFLICT
    if state == _READ_ONLY:
        return Fault.UNAVAILABLE if write else Fault.CONFLICT
    if state is None:
        # The server had no say: it was not reached, or went away.
        return Fault.UNAVAILABLE if isinstance(error.orig, psycopg.OperationalError) else None
    known = state in _UNAVAILABLE or state[:2] in _UNAVAILABLE_CLASSES
    return Fault.UNAVAILABLE if known else None


def try_lock(connection: Connection, number: int) -> bool:
    """Take an advisory lock, which is let go when the transaction ends in whatever way."""
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(number))))


@contextmanager
def exclusive(connection: Connection, *, patience: float) -> Iterator[None]:
    """Run the block under a lock of the session, which outlives the block's transactions.

    The lock is asked for again and again: a statement that waited for it would hold a snapshot,
    and CREATE INDEX CONCURRENTLY in the other process would wait for that snapshot in turn.
    """
    deadline = time.monotonic() + patience
    while not connection.scalar(select(func.pg_try_advisory_lock(_MIGRATION_LOCK))):
        connection.rollback()
        if time.monotonic() > deadline:
            raise DatabaseUnavailable("Another process is migrating the database.")
        time.sleep(0.1)
    connection.rollback()
    # The lock ends with the session, so it is let go also when the connection breaks.
    yield


def _open(
    patience: float | None, _dialect: object, _record: object, args: list[str], kwargs: _Arguments
) -> BoundedConnection:
    connection = BoundedConnection.connect(*args, **kwargs)
    # A second more, so that a server that is well refuses by itself and keeps the connection.
    connection.patience = None if patience is None else patience + 1.0
    return connection
