"""The database as the rest of Concord sees it: work goes in, and is done in one transaction."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from models import sqlite
from models.backend import Backend, Engines, Fault, Limits
from models.errors import DatabaseUnavailable

T = TypeVar("T")

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


class Database:
    """A pool of connections to SQLite or PostgreSQL. It may be shared by threads.

    Args:
        url: `sqlite:///var/concord.db`, `postgresql://user@host/name`.
        pool_size: connections; no more than this many transactions run at once.
        pool_timeout: seconds to wait for a free connection.
        connect_timeout: seconds to wait for the server to accept one (at least 2).
        lock_timeout: seconds to wait for a row, or in SQLite for the turn to write.
        statement_timeout: seconds that one statement may run (PostgreSQL).

    Raises:
        ValueError: the URL does not name a database that Concord can use.
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
    ) -> None:
        try:
            self._url = make_url(url)
            self._backend = _backend(self._url.get_backend_name())
        except (SQLAlchemyError, KeyError):
            # The URL itself is not repeated: it may hold a password.
            raise ValueError(
                "The database URL must begin with sqlite:// or postgresql://."
            ) from None
        self._limits = Limits(
            pool_size, pool_timeout, connect_timeout, lock_timeout, statement_timeout
        )
        self._engines = self._connect(self._limits)
        # Asking whether the database is there must not queue behind those who use it.
        self._probe = self._connect(Limits(1, 1.0, 2.0, 1.0, 1.0))

    def transact(self, work: Callable[[Session], T], *, write: bool, late: bool = False) -> T:
        """Run `work` in one transaction and give its result after the commit.

        Any error rolls back. When another transaction was in the way, the work starts again from
        nothing in a new session, so it must not have effects outside of the session. A transaction
        that was announced as reading and then writes is started again as a writing one if need be.
        The connection is taken, and the transaction begins, at the first statement.

        SQLite has one writer at a time. Work that reads first and then takes its time, such as
        checking a password, is done with `late`: its turn to write comes at its first change, and
        if somebody else wrote meanwhile, it starts again with its turn at the start.

        Raises:
            DatabaseUnavailable: the database is away or full, or others were in the way for as long
                as `lock_timeout`.
        """
        patience = _Patience(self._limits.lock_timeout)
        while True:
            begun = self._engines.late if late else self._engines.writing
            engine = begun if write else self._engines.reading
            try:
                with Session(engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except SQLAlchemyError as error:
                self._insist_on_conflict(error, patience, write=write)
            # Only what it wrote can have brought a reading transaction into conflict.
            write, late = True, False
            patience.wait()

    def read(self, work: Callable[[Connection], T], *, snapshot: bool = False) -> T:
        """Let `work` read rows, and give its result. It costs a fraction of what `transact` does.

        Without a transaction each statement is for itself; with a `snapshot` all see the same
        moment. Nothing may be written: outside of a transaction nothing would keep it together.

        Raises:
            DatabaseUnavailable: as in `transact`, or a snapshot was written to.
        """
        engine = self._engines.reading if snapshot else self._engines.single
        patience = _Patience(self._limits.lock_timeout)
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                # Nothing begins anew as a writing transaction here.
                self._insist_on_conflict(error, patience, write=True)
            patience.wait()

    def try_lock(self, session: Session, number: int) -> bool:
        """Take a lock of this number until the transaction ends; say no if another one has it.

        SQLite always says yes, because a transaction that writes has all others wait.
        """
        return self._backend.try_lock(session.connection(), number)

    def answers(self) -> bool:
        """Tell within a few seconds whether there is a database at all, migrated or not."""
        try:
            with self._probe.reading.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def is_ready(self) -> bool:
        """Tell within a few seconds whether the database answers and has been migrated."""
        query = text("SELECT version_num FROM alembic_version")
        try:
            with self._probe.reading.connect() as connection:
                return connection.execute(query).first() is not None
        except SQLAlchemyError:
            return False

    @contextmanager
    def maintenance(self, *, patience: float) -> Iterator[Connection]:
        """Lend a connection for migrations: no other process is given one meanwhile.

        Statements may run as long as they need, but wait for locks no longer than usual, because
        everybody else queues behind a migration that waits.

        Raises:
            DatabaseUnavailable: the database is away, or `patience` seconds were not enough.
        """
        engines = self._connect(replace(self._limits, pool_size=1, statement_timeout=None))
        try:
            with (
                engines.writing.connect() as connection,
                self._backend.exclusive(connection, patience=patience),
            ):
                yield connection
        except SQLAlchemyError as error:
            if self._diagnose(error, write=True) is None:
                raise
            raise DatabaseUnavailable from error
        finally:
            engines.writing.dispose()

    def dispose(self) -> None:
        """Close the idle connections. The others are closed when they are given back."""
        for engine in (*self._engines, *self._probe):
            engine.dispose()

    def _connect(self, limits: Limits) -> Engines:
        return self._backend.connect(self._url, limits)

    def _insist_on_conflict(
        self, error: SQLAlchemyError, patience: "_Patience", *, write: bool
    ) -> None:
        """Raise what is no conflict, or one that has lasted for too long."""
        fault = self._diagnose(error, write=write)
        if fault is None:
            raise error
        if fault is Fault.UNAVAILABLE or patience.is_over:
            raise DatabaseUnavailable from error

    def _diagnose(self, error: SQLAlchemyError, *, write: bool) -> Fault | None:
        if isinstance(error, StaleDataError):
            return Fault.CONFLICT
        if isinstance(error, PoolTimeout):
            return Fault.UNAVAILABLE
        return self._backend.diagnose(error, write=write) if isinstance(error, DBAPIError) else None


def together(connection: Connection) -> AbstractContextManager[None]:
    """Let the block send statements that return nothing together, where that saves time.

    What one of them does wrong is raised at the end of the block.
    """
    return _backend(connection.dialect.name).together(connection)


class _Patience:
    """How long others may be in the way of some work, and the pauses before it is tried again."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    @property
    def is_over(self) -> bool:
        """Whether that time is over."""
        return time.monotonic() > self._deadline

    def wait(self) -> None:
        """Pause, each time for longer; chance keeps rivals apart."""
        time.sleep(random.uniform(0, self._pause))  # noqa: S311 - no secret rests on it.
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _backend(name: str) -> Backend:
    if name == "postgresql":
        from models import postgresql  # noqa: PLC0415 - its driver takes 10 MB, of no use to SQLite.

        return postgresql
    return {"sqlite": sqlite}[name]
