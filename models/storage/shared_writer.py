"""The one connection of a process that writes to SQLite, whose transactions can share a commit."""

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any, TypeAlias

from sqlalchemy import Dialect
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.storage.backend import WatchedPool

_MOST = 16
"""Maximum number of transactions that share a commit."""

_SECONDS = 0.008
"""Time after which a transaction is no longer shared, because other processes wait for it."""

Use: TypeAlias = Callable[[sqlite3.Connection], None]
Report: TypeAlias = Callable[[float, str], None]


class SharedWriter:
    """A connection that writers use in turns, in the order in which they asked for it.

    When a brief writer commits while another one is waiting, the transaction stays open for that
    one, which works within a savepoint. The last writer of such a group commits for all of them.
    Until then, the others wait in their own `commit`, so none reports success before its changes
    are on disk. If this commit fails, it fails for each of them. A writer that rolls back undoes
    only its own changes. It waits for the commit too, because it may have read the others' changes.

    Only the writer whose turn it is uses the connection and the attributes of the group.
    """

    def __init__(self, configure: Use, begin: Use, report: Report, *, patience: float) -> None:
        """Take functions that configure a new connection, begin a transaction, and count a wait.

        A writer waits up to `patience` seconds for its turn.
        """
        self._configure, self._begin, self._report = configure, begin, report
        self._patience = patience
        self._lock = threading.Lock()
        self._driver: sqlite3.Connection | None = None
        self._uses = 0
        self._waiting: deque[Writer] = deque()
        self._group: list[Writer] = []
        self._begun = 0.0
        self.is_taken = False

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._driver is not None

    def connect(
        self, dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> "Writer":
        """Return a new use of the connection for a pool. The first use opens the connection."""
        with self._lock:
            if self._driver is None:
                driver: Any = dialect.connect(*arguments, **options)
                self._configure(driver)
                self._driver = driver
            self._uses += 1
            return Writer(self, self._driver)

    def disconnect(self) -> None:
        """End a use of the connection. The end of the last use closes the connection."""
        with self._lock:
            self._uses -= 1
            if not self._uses and self._driver is not None:
                self._driver.close()
                self._driver = None

    def start(self, writer: "Writer") -> None:
        """Wait for the writer's turn, then begin a transaction, or a part of a shared one.

        Raises:
            PoolTimeout: The writer's turn did not come in time.
            sqlite3.Error: The transaction could not begin.
        """
        self._wait_for_turn(writer)
        try:
            if self._group:
                writer.driver.execute("SAVEPOINT part")
            else:
                self._begin(writer.driver)
                self._begun = time.monotonic()
        except BaseException as error:
            self._finish(writer, error)
            raise

    def end(self, writer: "Writer", *, commits: bool) -> None:
        """End the writer's part; return when the transaction has ended for all its writers.

        Raises:
            sqlite3.Error: The transaction was rolled back for all of them.
        """
        driver, is_part = writer.driver, bool(self._group)
        if is_part or commits:
            self._group.append(writer)
        try:
            if self._group:
                _require_transaction(driver)
            if is_part:
                driver.execute("RELEASE part" if commits else "ROLLBACK TO part")
            elif not commits:
                driver.rollback()
            is_over = not self._share(writer)
            if is_over and self._group:
                driver.commit()
        except BaseException as error:
            self._finish(writer, error)
            raise
        if is_over:
            self._finish(writer)
        else:
            writer.wait_for_commit()

    def _wait_for_turn(self, writer: "Writer") -> None:
        with self._lock:
            if not self.is_taken:
                self.is_taken = True
                return
            self._waiting.append(writer)
        asked = time.monotonic()
        served = writer.signal.acquire(timeout=self._patience)
        if not served:
            with self._lock:
                if writer in self._waiting:
                    self._waiting.remove(writer)
                else:
                    # The writer's turn came just now.
                    served = writer.signal.acquire()
        self._report(time.monotonic() - asked, "served" if served else "timed_out")
        if not served:
            raise PoolTimeout("the other writers took too long")

    def _share(self, writer: "Writer") -> bool:
        """Pass the open transaction to the next writer if it may be shared; return whether."""
        is_long = time.monotonic() - self._begun > _SECONDS
        if not self._group or len(self._group) >= _MOST or is_long or not writer.is_brief:
            return False
        with self._lock:
            if not self._waiting or not self._waiting[0].is_brief:
                return False
            self._waiting.popleft().signal.release()
        return True

    def _finish(self, writer: "Writer", error: BaseException | None = None) -> None:
        """Pass the turn on after the transaction has ended, and tell its writers the outcome."""
        if error is not None:
            with contextlib.suppress(Exception):
                writer.driver.rollback()
        group, self._group = self._group, []
        with self._lock:
            if self._waiting:
                self._waiting.popleft().signal.release()
            else:
                self.is_taken = False
        if error is not None and not isinstance(error, sqlite3.Error):
            error = _undone()
        for each in group:
            if each is not writer:
                each.error = error
                each.signal.release()


class WriterPool(WatchedPool):
    """A pool of uses of a shared connection. It counts the connection, not its uses."""

    shared: SharedWriter | None = None

    def size(self) -> int:
        """Return the number of connections."""
        return 1

    def opened(self) -> int:
        """Return the number of open connections."""
        return int(self.shared is not None and self.shared.is_open)

    def checkedout(self) -> int:
        """Return the number of connections in use."""
        return int(self.shared is not None and self.shared.is_taken)

    def report(self, seconds: float, outcome: str) -> None:
        """Report a wait for the connection."""
        if self.on_wait is not None:
            self.on_wait(seconds, outcome)


class Writer:
    """A use of the shared connection, which a pool lends to one thread at a time.

    It has the attributes of a connection that SQLAlchemy needs.
    """

    isolation_level = None

    def __init__(self, shared: SharedWriter, driver: sqlite3.Connection) -> None:
        self._shared = shared
        self._has_turn = False
        self.driver = driver
        self.cursor = driver.cursor
        self.is_brief = False
        self.error: sqlite3.Error | None = None
        self.signal = threading.Lock()
        """Released by another writer when this one's turn comes, and when the transaction ends."""
        self.signal.acquire()

    def begin(self, *, is_brief: bool) -> None:
        """Begin a transaction. A brief one may share its commit.

        Raises:
            PoolTimeout, sqlite3.Error: As in `SharedWriter.start`.
        """
        self.is_brief = is_brief
        self._shared.start(self)
        self._has_turn = True

    def commit(self) -> None:
        """Commit.

        Raises:
            sqlite3.Error: Nothing was committed.
        """
        self._end(commits=True)

    def rollback(self) -> None:
        """Roll back, unless the transaction has ended.

        Raises:
            sqlite3.Error: A shared transaction, which this one may have read from, was rolled back.
        """
        self._end(commits=False)

    def close(self) -> None:
        """Roll back, and end this use."""
        try:
            self.rollback()
        finally:
            self._shared.disconnect()

    def create_function(self, *_: object, **__: object) -> None:
        """Do nothing. SQLAlchemy would define its functions again for each use of the connection.

        While a statement is running, SQLite refuses to define a function again.
        """

    def wait_for_commit(self) -> None:
        """Wait until the shared transaction has ended.

        Raises:
            sqlite3.Error: It was rolled back.
        """
        self.signal.acquire()
        if self.error is not None:
            # Each thread raises its own copy, because raising an error changes it.
            raise copy(self.error)

    def _end(self, *, commits: bool) -> None:
        if self._has_turn:
            self._has_turn = False
            self._shared.end(self, commits=commits)


def _require_transaction(driver: sqlite3.Connection) -> None:
    if not driver.in_transaction:
        raise _undone()


def _undone() -> sqlite3.Error:
    """Return the error for a transaction that SQLite rolled back by itself, as on a full disk.

    The error counts as a conflict, so the other writers retry their work.
    """
    error = sqlite3.OperationalError("the shared transaction was rolled back")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error
