"""PostgreSQL through psycopg 3, the database for production use."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from select import POLLIN, poll
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import make_conninfo
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

from models.bounded_connection import BoundedConnection
from models.errors import DatabaseUnavailable
from models.storage.backend import JSON_CODEC, Engines, Fault, Limits, WatchedPool
from models.storage.constants import SETTLE, constant, read_rows
from models.storage.schema_version import SchemaError

_Arguments: TypeAlias = dict[str, Any]  # SQLAlchemy's type for the arguments of a driver.

# SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_CONFLICT = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_READ_ONLY = "25006"  # read-only transaction
# Idle in transaction, insufficient privilege, lock not available.
_UNAVAILABLE = frozenset({"25P03", "42501", "55P03"})
# Connection lost, resources exhausted, operator intervention, system error.
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58"})

_TRUSTED = 1.0
"""Seconds after its last use for which a connection is assumed to be alive."""
_USED = "concord_used"

_LONGEST_SILENCE = "30s"  # between two statements of a transaction
_PLAN_CACHE_MODE = "force_custom_plan"
"""The option that tells whether a server knows the options: no role has a reason to set it."""
_UNSET = """
    SELECT string_agg(format('ALTER ROLE %I SET %s = %L;', session_user, name, needed), ' ')
    FROM (VALUES
        ('TimeZone', 'UTC'), ('lock_timeout', '5s'), ('statement_timeout', '5s'),
        ('idle_in_transaction_session_timeout', '30s')
    ) AS settings (name, needed)
    WHERE CASE name
        WHEN 'TimeZone' THEN current_setting(name) <> needed
        ELSE current_setting(name)::interval NOT BETWEEN '1 ms' AND needed::interval
    END
"""
"""Returns the statements that set what the role lacks, or NULL. A limit may be shorter."""
_MIGRATION_LOCK = 0x436F6E636F7264
"""Key of the advisory lock: "Concord" in ASCII."""


def knows_option(name: str) -> bool:
    """Return whether libpq has a connection option of this name, such as `sslmode`."""
    try:
        make_conninfo(**{name: ""})
    except psycopg.ProgrammingError:
        return False
    return True


def connect(url: URL, limits: Limits) -> Engines:
    """Create the pool with psycopg 3, keeping the `options` of the URL."""
    arguments: _Arguments = {"connect_timeout": round(limits.connect_timeout)}
    if limits.is_pooled:
        # PgBouncer refuses options. The connection of the next transaction lacks the statements
        # that were prepared on another.
        arguments["prepare_threshold"] = None
    else:
        arguments["options"] = _options(url, limits)
    # A socket may stand in place of the host: postgresql://concord@%2Frun%2Fpostgresql/concord.
    host = None if url.host is None else unquote(url.host)
    engine = create_engine(
        url.set(drivername="postgresql+psycopg", host=host),
        connect_args=arguments,
        isolation_level="READ COMMITTED",
        poolclass=WatchedPool,
        pool_size=limits.pool_size,
        max_overflow=0,
        pool_timeout=limits.pool_timeout,
        pool_use_lifo=True,
        hide_parameters=True,
        **JSON_CODEC,
    )
    # Insert several rows with one statement instead of one statement each.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    event.listen(engine, "do_connect", partial(_open, limits))
    event.listen(engine, "checkout", partial(_make_sure, engine.dialect))
    event.listen(engine, "checkin", _check_in)
    # In autocommit mode there is no BEGIN or COMMIT, so a statement takes one exchange.
    single = engine.execution_options()
    event.listen(single, "begin", _begin_statement)
    # All statements of a reading transaction see the same snapshot, as in SQLite.
    reading = engine.execution_options()
    event.listen(reading, "begin", _begin_snapshot)
    brief = engine.execution_options(**{SETTLE: _settle})
    event.listen(brief, "begin", _begin_pipelined)
    # SQLAlchemy looks at the result of a statement at once.
    event.listen(brief, "after_cursor_execute", _settle)
    return Engines(single, reading, engine, engine, brief)


def diagnose(error: DBAPIError, *, write: bool) -> Fault | None:
    """Diagnose an error by its SQLSTATE.

    A read-only error in a reading transaction is a conflict, so that it is retried as a writing
    one. In a writing transaction, it means that the server is a standby.
    """
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state in _CONFLICT:
        return Fault.CONFLICT
    if state == _READ_ONLY:
        return Fault.UNAVAILABLE if write else Fault.CONFLICT
    if state is None:
        # Without an SQLSTATE, the server was not reached or the connection was lost.
        return Fault.UNAVAILABLE if isinstance(error.orig, psycopg.OperationalError) else None
    known = state in _UNAVAILABLE or state[:2] in _UNAVAILABLE_CLASSES
    return Fault.UNAVAILABLE if known else None


def is_trusted(connection: Connection) -> bool:
    """Return whether a kept connection can be used without a ping, by the rules of the pool."""
    return _is_trusted(_driver(connection), connection.info)


_TRY_LOCK = constant(select(func.pg_try_advisory_xact_lock(bindparam("number", type_=BigInteger))))


def try_lock(connection: Connection, number: int) -> Callable[[], bool]:
    """Try to acquire an advisory lock, which the server releases when the transaction ends."""
    return read_rows(connection, _TRY_LOCK, {"number": number}).scalar_one


@contextmanager
def exclusive(connection: Connection, *, patience: float) -> Iterator[None]:
    """Run the block under a session-level lock, which outlives the block's transactions.

    The lock is polled, because a statement waiting for it would keep a snapshot open. CREATE INDEX
    CONCURRENTLY in the other process would then wait for that snapshot, which is a deadlock.
    """
    deadline = time.monotonic() + patience
    while not connection.scalar(select(func.pg_try_advisory_lock(_MIGRATION_LOCK))):
        connection.rollback()
        if time.monotonic() > deadline:
            raise DatabaseUnavailable("Another process is migrating the database.")
        time.sleep(0.1)
    connection.rollback()
    # The lock ends with the session, so it is released even if the connection breaks.
    yield


def _make_sure(
    dialect: Dialect, connection: BoundedConnection, record: PoolRecord, _: object
) -> None:
    """Ping the server if there is reason to doubt that a connection is alive."""
    try:
        if _is_trusted(connection, record.info):
            return
        dialect.do_ping(connection)  # type: ignore[arg-type]  # A protocol that is narrower.
    except psycopg.OperationalError as error:
        # The other connections are as old, and pinging each would take as long to fail.
        raise InvalidatePoolError from error
    record.info[_USED] = time.monotonic()


def _is_trusted(connection: BoundedConnection, info: dict[str, Any]) -> bool:
    """Return whether a connection can be used without a ping; if so, record the time of use.

    A ping before every use would cost a round trip. A server that closes a connection announces
    this, which is visible without a ping. A server that vanished is detected by the ping that
    precedes the first use after more than a second without use.
    """
    now = time.monotonic()
    if now - info.setdefault(_USED, now) > _TRUSTED or _has_news(connection):
        return False
    info[_USED] = now
    return True


def _has_news(connection: BoundedConnection) -> bool:
    """Return whether an idle connection has unread data from the server."""
    unread = poll()
    unread.register(connection.fileno(), POLLIN)
    return bool(unread.poll(0))


# SQLAlchemy's option `isolation_level` does the same, but takes longer.
def _begin_statement(connection: Connection) -> None:
    _driver(connection).autocommit = True


def _begin_pipelined(connection: Connection) -> None:
    try:
        _driver(connection).begin_pipelined()
    except psycopg.Error as error:
        # SQLAlchemy does not expect errors of the driver from a listener.
        raise DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


def _settle(connection: Connection, *_: object) -> None:
    _driver(connection).settle()


def _begin_snapshot(connection: Connection) -> None:
    driver = _driver(connection)
    driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    driver.read_only = True


def _driver(connection: Connection) -> BoundedConnection:
    return cast("BoundedConnection", connection.connection.driver_connection)


def _check_in(connection: BoundedConnection | None, _: object) -> None:
    """Undo the settings of `_begin_statement` and `_begin_snapshot`."""
    if connection is None or connection.closed:
        return
    if connection.autocommit:
        connection.autocommit = False
    if connection.read_only:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.read_only = None


def _options(url: URL, limits: Limits) -> str:
    given = url.query.get("options", "")
    options = [given if isinstance(given, str) else " ".join(given), "-c timezone=UTC"]
    # psycopg prepares frequent statements, and the server would soon use one plan for all values.
    # The best index depends on the value, such as how rare a status or a word is.
    options.append(f"-c plan_cache_mode={_PLAN_CACHE_MODE}")
    options.append(f"-c lock_timeout={limits.lock_timeout * 1000:.0f}")
    options.append(f"-c statement_timeout={(limits.statement_timeout or 0) * 1000:.0f}")
    # A process that was stopped or disconnected must not keep its locks forever.
    silence = 0 if limits.statement_timeout is None else _LONGEST_SILENCE
    options.append(f"-c idle_in_transaction_session_timeout={silence}")
    # No limit applies between the statements of a pipeline, so the server must notice by itself
    # within 25 seconds that a machine has vanished.
    options.append(
        "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    )
    return " ".join(options)


def _open(
    limits: Limits, _dialect: object, _record: object, args: list[str], kwargs: _Arguments
) -> BoundedConnection:
    connection = BoundedConnection.connect(*args, **kwargs)
    # One more second lets a healthy server cancel the statement itself and keep the connection.
    patience = limits.statement_timeout
    connection.patience = None if patience is None else patience + 1.0
    try:
        _require_settings(connection, is_pooled=limits.is_pooled)
    except Exception:
        connection.close()
        raise
    return connection


def _require_settings(connection: BoundedConnection, *, is_pooled: bool) -> None:
    # Other encodings cannot store every name. `initdb` chooses one if the locale is C.
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaError(f"the database has the encoding {encoding}: create it with UTF8")
    connection.autocommit = True
    query = _UNSET if is_pooled else "SHOW plan_cache_mode"
    (found,) = connection.execute(query).fetchone() or (None,)
    connection.autocommit = False
    if is_pooled:
        # PgBouncer opens the connections to the server, so their settings are those of the role.
        if found is not None:
            raise SchemaError(
                f"the role lacks settings: run {found} then RECONNECT in PgBouncer's console"
            )
    elif found != _PLAN_CACHE_MODE:
        raise SchemaError(
            "the connection options had no effect: connect to PostgreSQL, not to PgBouncer"
        )
