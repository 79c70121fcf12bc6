"""SQLite, the embedded database: one file, many readers, one writer at a time."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from models.folders import make_private_folder
from models.storage.backend import JSON_CODEC, Engines, Fault, Limits, WatchedPool
from models.storage.shared_writer import SharedWriter, Writer, WriterPool

_BEGIN = "concord_begin"
"""The execution option with the statement that begins a transaction; `None` begins none."""

_WRITE = "BEGIN IMMEDIATE"

_SHARE = "BEGIN IMMEDIATE, or a part of a shared transaction"

_POLL_SECONDS = 0.0005
"""The time between two attempts to acquire the write lock from another process."""

_CACHE_KIB = 512
"""Page cache per connection, instead of SQLite's default of two megabytes. The operating system
caches the file for all connections, so eight threads listing orders lose no speed."""

_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)


def connect(url: URL, limits: Limits) -> Engines:
    """Create the connection pools for a database file, and the file's directory.

    A writing transaction begins with BEGIN IMMEDIATE, so it waits for the write lock before it
    reads. With a plain BEGIN, a transaction that reads and then writes can fail at once, regardless
    of the timeout, because another one wrote in the meantime.

    The writers of a process share one connection. SQLite allows one writer at a time and makes the
    others sleep and poll, whereas `SharedWriter` queues them and wakes them.

    Raises:
        ValueError: The URL does not name a file.
    """
    if not url.database or url.database == ":memory:":
        raise ValueError("The SQLite URL must name a file, like sqlite:///var/concord.db.")
    make_private_folder(Path(url.database).parent)
    snapshots = _engine(url, limits, "BEGIN")
    writing = _engine(url, limits, _WRITE)
    brief = writing.execution_options(**{_BEGIN: _SHARE})
    # A statement outside a transaction has a snapshot of its own.
    single = snapshots.execution_options(**{_BEGIN: None})
    # With two connections, one can be kept, because the pool is then not exhausted.
    never_waiting = replace(limits, pool_size=2, pool_timeout=0.0, lock_timeout=0.0)
    glancing = _engine(url, never_waiting, None)
    return Engines(single, snapshots, snapshots, writing, brief, glancing)


def diagnose(error: DBAPIError, *, write: bool) -> Fault | None:  # noqa: ARG001 - both databases have one signature
    """Diagnose an error by its SQLite result code.

    SQLITE_BUSY in a reading transaction means that it tried to write from an outdated snapshot or
    alongside another writer. In a writing one, it means that waiting for the write lock timed out.
    """
    # The low byte is the primary result code (https://sqlite.org/rescode.html).
    primary = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_BUSY:
        return Fault.CONFLICT
    return Fault.UNAVAILABLE if primary in _UNAVAILABLE else None


def is_trusted(_connection: Connection) -> bool:
    """Return `True`, because a file cannot lose its connection as a server can."""
    return True


def try_lock(_connection: Connection, _number: int) -> Callable[[], bool]:
    """Return a function that returns `True`, because only one transaction can write at a time."""
    return lambda: True


@contextmanager
def exclusive(connection: Connection, *, patience: float) -> Iterator[None]:
    """Run the block in one transaction under the write lock. DDL is transactional in SQLite."""
    # These must precede BEGIN, so they bypass SQLAlchemy, which begins at the first statement.
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
    # A migration that rebuilds a table drops the old one, which would delete the rows that refer
    # to it (https://sqlite.org/lang_altertable.html#otheralter). Foreign keys are therefore off
    # until the check at the end.
    cursor.execute("PRAGMA foreign_keys = OFF")
    # SQLite sorts a new index of a large table in files instead of in memory.
    cursor.execute("PRAGMA temp_store = FILE")
    with connection.begin():
        yield
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if orphans:
            raise RuntimeError(f"the migration leaves {len(orphans)} rows without their parent")


def _engine(url: URL, limits: Limits, begin: str | None) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": limits.lock_timeout, "check_same_thread": False},
        poolclass=WriterPool if begin == _WRITE else WatchedPool,
        pool_size=limits.pool_size,
        max_overflow=0,
        pool_timeout=limits.pool_timeout,
        pool_use_lifo=True,
        hide_parameters=True,
        execution_options={_BEGIN: begin},
        **JSON_CODEC,
    )
    event.listen(engine, "do_connect", partial(_make_private, str(url.database)))
    event.listen(engine, "begin", _begin)
    if isinstance(pool := engine.pool, WriterPool):
        pool.shared = SharedWriter(
            _configure_writer, _begin_to_write, pool.report, patience=limits.lock_timeout
        )
        event.listen(engine, "do_connect", pool.shared.connect)
    else:
        event.listen(engine, "connect", _configure)
    return engine


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options()[_BEGIN]
    driver = cast("sqlite3.Connection | Writer", connection.connection.driver_connection)
    if isinstance(driver, Writer):
        try:
            driver.begin(is_brief=begin == _SHARE)
        except sqlite3.Error as error:
            raise DBAPIError(_WRITE, None, error) from error
    elif begin is not None:
        # This locks nothing and cannot fail, so it need not go through SQLAlchemy.
        driver.execute(begin)


def _begin_to_write(driver: sqlite3.Connection) -> None:
    """Begin a transaction soon after no other process writes, within the busy timeout.

    SQLite would poll with growing pauses of up to 100 ms, in which the other process, whose threads
    wait for their turns instead, would write again and again.
    """
    (timeout,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        _insist(driver, _WRITE, timeout / 1000, pause=_POLL_SECONDS)
    finally:
        driver.execute(f"PRAGMA busy_timeout = {timeout}")


def _make_private(file: str, *_connection: object) -> None:
    """Create a missing database file with access for its owner only.

    The file contains personal data, and its directory may be readable by others. SQLite's other
    files inherit the permissions. If the file cannot be created, SQLite reports the error later.

    An existing file is never opened here. Closing it would drop every lock that this process has on
    it (https://sqlite.org/howtocorrupt.html, section 2.2). Other processes would then remove the
    log that its open connections write to.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _configure_writer(connection: sqlite3.Connection) -> None:
    _configure(connection)
    # Otherwise, savepoints would copy pages to a temporary file.
    connection.execute("PRAGMA temp_store = MEMORY")


def _configure(connection: sqlite3.Connection, _record: object = None) -> None:
    # The driver would send BEGIN only before the first change, so SQLAlchemy's event sends it.
    connection.isolation_level = None
    _enter_wal(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    # Deleted data is overwritten with zeros, so that none remains in free pages of the file.
    connection.execute("PRAGMA secure_delete = ON")
    # A negative cache size is in kibibytes, a positive one in pages.
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Enable the write-ahead log, so that readers and a writer can work concurrently.

    Processes that open a new file at the same time can conflict here. SQLite does not apply the
    busy timeout to this change, so it is retried until the timeout.
    """
    (timeout,) = connection.execute("PRAGMA busy_timeout").fetchone()
    _insist(connection, "PRAGMA journal_mode = WAL", timeout / 1000, pause=0.02)


def _insist(
    connection: sqlite3.Connection, statement: str, patience: float, *, pause: float
) -> None:
    """Run a statement, and again after each pause while other connections prevent it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(pause)
        else:
            return
