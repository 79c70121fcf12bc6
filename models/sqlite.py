"""SQLite, the embedded database: one file, many readers, one writer at a time."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from models.backend import JSON_CODEC, Engines, Fault, Limits

_BEGIN = "concord_begin"
"""The execution option that says how a transaction begins; with `None` there is none."""

_CACHE_KIB = 512
"""For each connection, where SQLite takes two megabytes. The operating system holds the file in
memory for all of them together, so that eight threads that list orders lose no time by it."""

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
    """Prepare the pools of connections to the file, and make the folder that it lives in.

    A writing transaction begins with BEGIN IMMEDIATE, so it waits for its turn before it has read
    anything. With a plain BEGIN, two transactions that read first and write then both act on what
    they read, or one fails at once however long it was willing to wait.

    The writers of a process share one connection. They would take turns anyway, but by sleeping
    and asking again; for the connection they queue and are woken, and 16 threads get half as many
    writes again done.

    Raises:
        ValueError: the URL names no file.
    """
    if not url.database or url.database == ":memory:":
        raise ValueError("The SQLite URL must name a file, like sqlite:///var/concord.db.")
    Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    snapshots = _engine(url, limits, "BEGIN")
    one_writer = replace(limits, pool_size=1, pool_timeout=limits.lock_timeout)
    writing = _engine(url, one_writer, "BEGIN IMMEDIATE")
    # A statement without a transaction around it is a snapshot of its own.
    single = snapshots.execution_options(**{_BEGIN: None})
    return Engines(single, snapshots, snapshots, writing)


def diagnose(error: DBAPIError, *, write: bool) -> Fault | None:  # noqa: ARG001 - both databases have one signature
    """Read the result code.

    A busy reader tried to write on an outdated snapshot, or beside a writer. A busy writer has
    waited for its turn in vain.
    """
    # The low byte is the primary result code (https://sqlite.org/rescode.html).
    primary = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_BUSY:
        return Fault.CONFLICT
    return Fault.UNAVAILABLE if primary in _UNAVAILABLE else None


def try_lock(_connection: Connection, _number: int) -> bool:
    """Say yes: only one transaction at a time has its turn to write."""
    return True


def together(_connection: Connection) -> AbstractContextManager[None]:
    """Do nothing: there is nobody at a distance to wait for."""
    return contextlib.nullcontext()


@contextmanager
def exclusive(connection: Connection, *, patience: float) -> Iterator[None]:
    """Run the block in one transaction under the write lock: DDL is transactional in SQLite."""
    # These must come before BEGIN, so they go past SQLAlchemy, which begins at the first statement.
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
    # A migration that rebuilds a table drops the old one, which would delete the rows that refer
    # to it (https://sqlite.org/lang_altertable.html#otheralter). They are checked at the end.
    cursor.execute("PRAGMA foreign_keys = OFF")
    with connection.begin():
        yield
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if orphans:
            raise RuntimeError(f"the migration leaves {len(orphans)} rows without their parent")


def _engine(url: URL, limits: Limits, begin: str) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": limits.lock_timeout, "check_same_thread": False},
        pool_size=limits.pool_size,
        max_overflow=0,
        pool_timeout=limits.pool_timeout,
        pool_use_lifo=True,
        hide_parameters=True,
        execution_options={_BEGIN: begin},
        **JSON_CODEC,
    )
    event.listen(engine, "do_connect", partial(_make_private, str(url.database)))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options()[_BEGIN]
    if begin is not None:
        connection.exec_driver_sql(begin)


def _make_private(file: str, *_connection: object) -> None:
    """Make the file, if there is none, its owner's alone; SQLite's other files inherit that.

    It holds what people entrusted to the service, and the folder may be open to all. What cannot
    be made here is said by SQLite, in its own words.

    A file that exists is never opened: closing it again would drop every lock that this process
    holds on it (https://sqlite.org/howtocorrupt.html, section 2.2), and other processes would
    then remove the log that its open connections write to.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own BEGIN comes too late, before the first change; SQLAlchemy's event sends it.
    connection.isolation_level = None
    _enter_wal(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    # What is erased is overwritten with zeros instead of lying in free pages of the file.
    connection.execute("PRAGMA secure_delete = ON")
    # Kibibytes are below zero, as pages are above it.
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side (write-ahead log).

    Processes that open a new file together collide here, and SQLite does not apply the busy
    timeout to this change, so it is tried until that time is over.
    """
    (timeout,) = connection.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + timeout / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
