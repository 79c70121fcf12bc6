"""The database interface of Concord, which runs each unit of work in one transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from models.errors import DatabaseUnavailable
from models.storage import sqlite
from models.storage.backend import Backend, Fault, Limits, Patience, WatchedPool
from models.storage.reader import ConnectionReader, Reader
from models.storage.schema_version import SchemaError, schema_fault

T = TypeVar("T")


class Database:
    """A pool of connections to SQLite or PostgreSQL. An instance is thread-safe.

    Args:
        url: `sqlite:///var/concord.db`, `postgresql://user@host/name`.
        pool_size: Maximum number of connections, and so of concurrent transactions.
        pool_timeout: Seconds to wait for a free connection.
        connect_timeout: Seconds to wait for the server to accept a connection (at least 2).
        lock_timeout: Seconds to wait for a row lock or, in SQLite, for the write lock.
        statement_timeout: Maximum seconds for one statement (PostgreSQL only).
        is_pooled: Whether the URL leads to PgBouncer, through which `migrate` does not work.

    Raises:
        ValueError: The URL does not name a supported database.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 16,
        pool_timeout: float = 5.0,
        connect_timeout: float = 3.0,
        lock_timeout: float = 5.0,
        statement_timeout: float = 5.0,
        is_pooled: bool = False,
    ) -> None:
        try:
            self._url = make_url(url)
            self._backend = _backend(self._url.get_backend_name())
        except (SQLAlchemyError, KeyError):
            # The message does not repeat the URL, because it may contain a password.
            raise ValueError(
                "The database URL must start with sqlite:// or postgresql://."
            ) from None
        self._limits = Limits(
            pool_size, pool_timeout, connect_timeout, lock_timeout, statement_timeout, is_pooled
        )
        self._engines = self._backend.connect(self._url, self._limits)
        # Health checks use their own connection, so that they never wait for the pool.
        limits = Limits(1, 1.0, 2.0, 1.0, 1.0, is_pooled)
        self._probe = self._backend.connect(self._url, limits)

    def transact(
        self,
        work: Callable[[Session], T],
        *,
        write: bool = True,
        late: bool = False,
        brief: bool = False,
    ) -> T:
        """Run `work` in one transaction, commit, and return its result.

        Any error rolls back. After a conflict with another transaction, the work is retried in a
        new session, so it must have no effects outside the session. A transaction begun with
        `write=False` that then writes is retried as a writing one, if necessary. The connection is
        acquired, and the transaction begins, at the first statement.

        SQLite allows one writer at a time. Slow work that reads before it writes, such as checking
        a password, should set `late`. Its transaction then takes the write lock only at its first
        change. If another transaction wrote in the meantime, the work is retried with the write
        lock from the start.

        On SQLite, `brief` work may share its transaction, and so its commit, with other work. On
        PostgreSQL, it waits for a constant statement only when it needs the rows, or at the commit.

        Raises:
            DatabaseUnavailable: The database is unreachable or full, or conflicts lasted longer
                than `lock_timeout`.
        """
        patience = Patience(self._limits.lock_timeout)
        while True:
            writing = self._engines.brief if brief else self._engines.writing
            begun = self._engines.late if late else writing
            engine = begun if write else self._engines.reading
            try:
                with Session(engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except (SQLAlchemyError, SchemaError) as error:
                self._insist_on_conflict(error, patience, write=write)
            # A reading transaction can only conflict because it wrote something. Slow work shares
            # no commit, because others would wait for it.
            write, late, brief = True, False, brief and not late
            patience.wait()

    def read(
        self, work: Callable[[Reader], T], *, single: bool = False, staleness: float = 0.0
    ) -> T:
        """Run `work` to read, and return its result. All its statements see the same state.

        With `single`, `work` runs only one statement. It then needs no transaction, which saves
        BEGIN and COMMIT on PostgreSQL. With a replica, the state may be up to `staleness` seconds
        old.

        Raises:
            DatabaseUnavailable: As in `transact`.
            RuntimeError: `work` ran another statement, although it is `single`.
        """
        del staleness
        patience = Patience(self._limits.lock_timeout)
        while True:
            try:
                if single:
                    return self._look_up(self._engines.single, work)
                with (
                    self._engines.reading.connect() as connection,
                    connection.begin(),
                    ConnectionReader(connection) as reader,
                ):
                    return work(reader)
            except (SQLAlchemyError, SchemaError) as error:
                # `write=True` because a read is never retried as a writing transaction.
                self._insist_on_conflict(error, patience, write=True)
            patience.wait()

    @property
    def can_glance(self) -> bool:
        """Whether the database is embedded, so that `glance` needs no network."""
        return self._engines.glancing is not None

    def glance(self, work: Callable[[Reader], T]) -> T:
        """Run `work`, which is one quick statement, without waiting, as an event loop requires.

        `work` reads the whole result, because an unread one would keep the connection in the past.

        Raises:
            BlockingIOError: `work` would have to wait, or failed; `read` in a thread waits for it
                or raises the error.
            RuntimeError: As in `read`.
        """
        if self._engines.glancing is None:
            raise BlockingIOError
        try:
            return self._look_up(self._engines.glancing, work)
        except SQLAlchemyError as error:
            raise BlockingIOError from error

    def try_lock(self, session: Session, number: int) -> Callable[[], bool]:
        """Try to acquire the lock `number` until the transaction ends.

        Return a function that waits for the result, and returns whether the lock was acquired. On
        SQLite, it always returns `True`, because writing transactions exclude each other.
        """
        return self._backend.try_lock(session.connection(), number)

    def schema_version(self) -> str | None:
        """Return the version of the schema within a few seconds; `None` if there is no schema.

        Raises:
            DatabaseUnavailable: The database is unreachable.
        """
        query = text("SELECT version_num FROM alembic_version")
        try:
            with self._probe.reading.connect() as connection:
                version: str | None = connection.scalar(query)
        except SQLAlchemyError as error:
            if self._diagnose(error, write=True) is Fault.UNAVAILABLE:
                raise DatabaseUnavailable from error
            # The table does not exist.
            return None
        return version

    def clock(self) -> datetime:
        """Return the time of the database's clock within a few seconds.

        Raises:
            DatabaseUnavailable: The database is unreachable, or unsuitable.
        """
        try:
            with self._probe.reading.connect() as connection:
                now = connection.execute(select(func.now())).scalar_one()
        except (SQLAlchemyError, SchemaError) as error:
            raise DatabaseUnavailable from error
        # SQLite has no time zones, and gives its time in UTC.
        return now if now.tzinfo else now.replace(tzinfo=UTC)

    def place(self) -> tuple[object, ...]:
        """Return what differs for each database of PostgreSQL, whatever the URL that leads to it.

        Raises:
            DatabaseUnavailable: The database is unreachable.
        """
        query = select(func.pg_postmaster_start_time(), func.current_database())
        return self.read(lambda reader: tuple(reader.execute(query).one()), single=True)

    def fault(self) -> str | None:
        """Return within a few seconds why the database cannot be used, in one line, or `None`."""
        try:
            return schema_fault(self.schema_version())
        except SchemaError as error:
            return str(error)
        except DatabaseUnavailable as error:
            return error.reason

    def is_ready(self) -> bool:
        """Return within a few seconds whether this release can use the database."""
        return self.fault() is None

    @contextmanager
    def maintenance(self, *, patience: float) -> Iterator[Connection]:
        """Provide a connection for migrations, exclusive among all processes.

        Statements have no time limit. The limit on waiting for locks still applies, because other
        transactions queue behind a waiting migration.

        Raises:
            DatabaseUnavailable: The database is unreachable, or another process was migrating it
                for more than `patience` seconds.
        """
        limits = replace(self._limits, pool_size=1, statement_timeout=None)
        engines = self._backend.connect(self._url, limits)
        try:
            with (
                engines.writing.connect() as connection,
                self._backend.exclusive(connection, patience=patience),
            ):
                yield connection
        except PendingRollbackError as error:
            # The connection was lost between statements that are committed separately.
            raise DatabaseUnavailable from error
        except SQLAlchemyError as error:
            if self._diagnose(error, write=True) is None:
                raise
            raise DatabaseUnavailable from error
        finally:
            engines.writing.dispose()

    def watch_statements(self, begin: Callable[[str], Callable[[], None]]) -> None:
        """Call `begin` with the SQL of each statement, and what it returns after the statement.

        Neither is given values, which may be personal data.
        """
        self._engines.watch(begin)

    @property
    def pools(self) -> dict[str, WatchedPool]:
        """The pools of connections, except that of `glance`, which never waits."""
        reads, writes = self._engines.reading.pool, self._engines.writing.pool
        own = {"transactions": reads} if reads is writes else {"reads": reads, "writes": writes}
        pools = own | {"readiness": self._probe.reading.pool}
        return {name: cast("WatchedPool", pool) for name, pool in pools.items()}

    def dispose(self) -> None:
        """Close all idle connections. Connections in use are closed when they are returned."""
        for engine in filter(None, (*self._engines, *self._probe)):
            engine.dispose()

    def _look_up(self, engine: Engine, work: Callable[[Reader], T]) -> T:
        """Run `work`, a single statement, and keep its connection for the next single statement."""
        pool = cast("WatchedPool", engine.pool)
        connection = pool.take()
        if connection is not None and not self._backend.is_trusted(connection):
            # Before its next use, the pool pings it and replaces it if necessary.
            connection.close()
            connection = None
        connection = connection or engine.connect()
        try:
            if not connection.in_transaction():
                connection.begin()
            with ConnectionReader(connection, single=True) as reader:
                result = work(reader)
        except BaseException:
            connection.close()
            raise
        if connection.invalidated:
            connection.close()
        else:
            pool.keep(connection)
        return result

    def _insist_on_conflict(self, error: Exception, patience: Patience, *, write: bool) -> None:
        """Raise unless the error is a conflict that may still be retried."""
        fault = self._diagnose(error, write=write)
        if fault is None:
            raise error
        if fault is Fault.UNAVAILABLE or patience.is_over:
            raise DatabaseUnavailable from error

    def _diagnose(self, error: Exception, *, write: bool) -> Fault | None:
        if isinstance(error, StaleDataError):
            return Fault.CONFLICT
        if isinstance(error, PoolTimeout | SchemaError):
            return Fault.UNAVAILABLE
        return self._backend.diagnose(error, write=write) if isinstance(error, DBAPIError) else None


def _backend(name: str) -> Backend:
    if name == "postgresql":
        from models.storage import postgresql  # noqa: PLC0415 - its driver takes 10 MB, of no use to SQLite.

        return postgresql
    return {"sqlite": sqlite}[name]
