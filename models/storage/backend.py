"""The interface between `models.storage.database` and each supported database."""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol, cast

import orjson
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from typing_extensions import override

JSON_CODEC: Final[Mapping[str, Callable[[Any], Any]]] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
"""The JSON serializer for JSON columns. It must be fast, because each row of a list may have two of
them."""


_RUNNING = "concord_statement"

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """The pool size and timeouts. Times are in seconds, and `None` means no limit.

    Together, the timeouts bound the time of every response. They limit waiting for a pooled
    connection, connecting, waiting for a lock, and running a statement.
    """

    pool_size: int
    pool_timeout: float
    connect_timeout: float
    lock_timeout: float
    statement_timeout: float | None
    is_pooled: bool = False
    """Whether the URL leads to PgBouncer, so that the server's limits are settings of the role."""


class WatchedPool(QueuePool):
    """A pool of connections that reports each wait for one, and leaves none open at its end.

    SQLAlchemy takes longer to check a connection out and in again than to run a short statement, so
    connections for single statements stay checked out between them. If the pool has no other
    connection left, a kept one is returned to it.
    """

    on_wait: Callable[[float, str], None] | None = None
    """Called after a wait with its seconds, and its outcome: `served` or `timed_out`."""
    is_disposed = False

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as in SQLAlchemy.
        super().__init__(*args, **options)
        self._kept: list[Connection] = []
        # One entry for each thread that is getting a connection from the pool. This is a list
        # because appending and popping are atomic.
        self._seekers: list[None] = []

    def opened(self) -> int:
        """Return the number of connections, in use or idle."""
        return super().checkedout() + self.checkedin()

    @override
    def checkedout(self) -> int:
        """Return the number of connections in use."""
        return super().checkedout() - len(self._kept)

    def take(self) -> Connection | None:
        """Remove and return the connection that was kept last; return `None` if none is kept."""
        with suppress(IndexError):
            return self._kept.pop()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep a connection of this pool for the next single statement."""
        self._kept.append(connection)
        # Another thread may have looked for a kept connection just before this one was kept.
        if self.is_disposed or self._seekers or self._is_exhausted():
            self._return_one()

    @override
    def dispose(self) -> None:
        """Close idle connections now, and those in use when they are returned."""
        self.is_disposed = True
        while self._kept:
            self._return_one()
        super().dispose()

    @override
    def recreate(self) -> "WatchedPool":
        """Return the pool for a thread that did not notice the end: it keeps no connection."""
        pool = cast("WatchedPool", super().recreate())
        pool.is_disposed = self.is_disposed
        return pool

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if self.is_disposed:
            record.close()
        super()._do_return_conn(record)

    def _is_exhausted(self) -> bool:
        return self._overflow >= 0 and self._pool.empty()

    def _return_one(self) -> None:
        if connection := self.take():
            connection.close()

    def _do_get(self) -> ConnectionPoolEntry:
        self._seekers.append(None)
        try:
            return self._seek()
        finally:
            self._seekers.pop()
            # Another thread may be waiting because this one took the last idle connection.
            if self._seekers and self._is_exhausted():
                self._return_one()

    def _seek(self) -> ConnectionPoolEntry:
        if self._is_exhausted():
            self._return_one()
        if self.on_wait is None or not self._is_exhausted():
            return super()._do_get()
        began, outcome = time.monotonic(), "served"
        try:
            return super()._do_get()
        except PoolTimeout:
            outcome = "timed_out"
            raise
        finally:
            self.on_wait(time.monotonic() - began, outcome)


class Engines(NamedTuple):
    """The engines for single statements and for four kinds of transactions.

    A `reading` transaction only reads, a `late` one reads before it writes, and a `writing` one
    writes from the start, as does a `brief` one, which may share its commit or send constant
    statements without waiting for them. `glancing` runs statements on an event loop, and is `None`
    unless the database is embedded.
    """

    single: Engine
    reading: Engine
    late: Engine
    writing: Engine
    brief: Engine
    glancing: Engine | None = None

    def watch(self, begin: Callable[[str], Callable[[], None]]) -> None:
        """Watch statements, as in `Database.watch_statements`."""

        def before(connection: Connection, _cursor: object, sql: str, *_: object) -> None:
            connection.info[_RUNNING] = begin(sql)

        def after(connection: Connection, *_: object) -> None:
            connection.info.pop(_RUNNING)()

        def failed(context: ExceptionContext) -> None:
            if context.connection and (end := context.connection.info.pop(_RUNNING, None)):
                end()

        # The other engines are variants of these with other options.
        for engine in {self.late, self.writing, self.glancing} - {None}:
            event.listen(engine, "before_cursor_execute", before)
            event.listen(engine, "after_cursor_execute", after)
            event.listen(engine, "handle_error", failed)


class Patience:
    """The deadline for retries after conflicts, and the pauses between them."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() > self._deadline

    def wait(self) -> None:
        """Sleep for a random time with a growing limit, so that competing transactions spread."""
        time.sleep(random.uniform(0, self._pause))  # noqa: S311 - no secret rests on it.
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


class Fault(Enum):
    """The diagnosis of a driver error."""

    CONFLICT = auto()
    """A conflict with another transaction. A retry may succeed."""

    UNAVAILABLE = auto()
    """The database is unreachable, full or too busy. An immediate retry would make it worse."""


class Backend(Protocol):
    """A database module: `models.storage.sqlite` or `models.storage.postgresql`."""

    def connect(self, url: URL, limits: Limits, /) -> Engines:
        """Create the connection pools. They connect on first use."""

    def diagnose(self, error: DBAPIError, /, *, write: bool) -> Fault | None:
        """Return the diagnosis of an error in a writing or reading transaction.

        Return `None` if the error is a bug.
        """

    def is_trusted(self, connection: Connection, /) -> bool:
        """Return whether a kept connection can be used without a ping."""

    def try_lock(self, connection: Connection, number: int, /) -> Callable[[], bool]:
        """Try to acquire a lock until the transaction ends.

        Return a function that waits for the result, and returns whether the lock was acquired.
        """

    def exclusive(
        self, connection: Connection, /, *, patience: float
    ) -> AbstractContextManager[None]:
        """Exclude other migrations while the block runs, after waiting up to `patience` seconds.

        Raises:
            DatabaseUnavailable: Another process held the lock for the whole time (PostgreSQL).
        """
