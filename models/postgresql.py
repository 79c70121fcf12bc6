"""PostgreSQL through psycopg 3, the database for production."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from select import POLLIN, poll
from typing import Any, TypeAlias, cast

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Dialect,
    bindparam,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry as PoolRecord

from models.backend import JSON_CODEC, Engines, Fault, Limits
from models.errors import DatabaseUnavailable

_Arguments: TypeAlias = dict[str, Any]  # SQLAlchemy's own type of what a driver is opened with.

# SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_CONFLICT = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_READ_ONLY = "25006"  # read-only transaction
_UNAVAILABLE = frozenset({"25P03", "55P03"})  # idle in transaction, lock not available
# Connection lost, resources exhausted, operator intervention, system error.
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58"})

_TRUSTED = 1.0
"""Seconds after its last use in which a connection is taken to be there."""
_USED = "concord_used"

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
        pool_use_lifo=True,
        hide_parameters=True,
        **JSON_CODEC,
    )
    # Several rows go in one statement instead of one each.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    event.listen(engine, "do_connect", partial(_open, limits.statement_timeout))
    event.listen(engine, "checkout", partial(_make_sure, engine.dialect))
    event.listen(engine, "checkin", _note_use)
    # Outside of a transaction there is no BEGIN and no COMMIT to send: a statement is one exchange.
    single = engine.execution_options(isolation_level="AUTOCOMMIT")
    # All statements of a transaction that reads see the same moment, as they do in SQLite.
    reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return Engines(single, reading, engine, engine)


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


_TRY_LOCK = select(func.pg_try_advisory_xact_lock(bindparam("number", type_=BigInteger)))


def try_lock(connection: Connection, number: int) -> bool:
    """Take an advisory lock, which is let go when the transaction ends in whatever way."""
    return bool(connection.scalar(_TRY_LOCK, {"number": number}))


@contextmanager
def together(connection: Connection) -> Iterator[None]:
    """Send the block's statements without waiting for each to be answered (pipeline mode)."""
    driver = cast("BoundedConnection", connection.connection.driver_connection)
    try:
        with driver.pipeline():
            yield
    except psycopg.Error as error:
        # It comes when the answers are read, where SQLAlchemy does not look.
        raise DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


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


def _make_sure(
    dialect: Dialect, connection: BoundedConnection, record: PoolRecord, _: object
) -> None:
    """Ask the server whether a connection still is one, if there is any reason to doubt it.

    To ask each time costs an exchange. But a server that ends a connection says so, which can be
    seen here; and one that vanished is found out when the connection has not been used for long.
    """
    used = record.info.get(_USED)
    if used is None:
        return
    try:
        if time.monotonic() - used > _TRUSTED or _has_news(connection):
            dialect.do_ping(connection)  # type: ignore[arg-type]  # A protocol that is narrower.
    except psycopg.OperationalError as error:
        # The others are as old, and each would take as long to be found out.
        raise InvalidatePoolError from error


def _has_news(connection: BoundedConnection) -> bool:
    """Tell whether the server sent what nobody has read, when it was not asked anything."""
    unread = poll()
    unread.register(connection.fileno(), POLLIN)
    return bool(unread.poll(0))


def _note_use(_connection: object, record: PoolRecord) -> None:
    record.info[_USED] = time.monotonic()


def _open(
    patience: float | None, _dialect: object, _record: object, args: list[str], kwargs: _Arguments
) -> BoundedConnection:
    connection = BoundedConnection.connect(*args, **kwargs)
    # A second more, so that a server that is well refuses by itself and keeps the connection.
    connection.patience = None if patience is None else patience + 1.0
    return connection
