"""Writers of one process on SQLite share commits, and nothing else (MISSION M16)."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.storage import shared_writer
from models.storage.shared_writer import SharedWriter, Writer

pytestmark = pytest.mark.mission("M16")

Work = Callable[[Writer], object]


class FailingDriver(sqlite3.Connection):
    """A connection whose commits fail while it has an error."""

    error: Exception | None = None

    def commit(self) -> None:
        if self.error is not None:
            raise self.error
        super().commit()


class Shelf:
    """A table of one column, and the writers that add to it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.dialect = create_engine(f"sqlite:///{file}").dialect
        self.begun = 0
        """The number of transactions."""
        self.fails = False
        """Whether transactions cannot begin."""
        self.driver: sqlite3.Connection | None = None
        self.waits: list[str] = []
        self.shared = self.share(patience=10)
        self.first = self.connect()

    def share(self, *, patience: float) -> SharedWriter:
        return SharedWriter(
            self._configure,
            self._begin,
            lambda _seconds, outcome: self.waits.append(outcome),
            patience=patience,
        )

    def _configure(self, driver: sqlite3.Connection) -> None:
        self.driver = driver
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("CREATE TABLE IF NOT EXISTS things (name UNIQUE)")

    def _begin(self, driver: sqlite3.Connection) -> None:
        if self.fails:
            raise RuntimeError
        driver.execute("BEGIN IMMEDIATE")
        self.begun += 1

    def connect(self) -> Writer:
        options = {"isolation_level": None, "check_same_thread": False, "factory": FailingDriver}
        return self.shared.connect(self.dialect, None, [str(self.file)], options)

    def read(self) -> list[str]:
        """The names that are on disk, in the order in which they were added."""
        reader = sqlite3.connect(self.file)
        try:
            return [name for (name,) in reader.execute("SELECT name FROM things ORDER BY rowid")]
        finally:
            reader.close()

    def run(self, work: Work, *, is_brief: bool = True) -> None:
        writer = self.connect()
        try:
            writer.begin(is_brief=is_brief)
            try:
                work(writer)
            except BaseException:
                writer.rollback()
                raise
            writer.commit()
        finally:
            writer.close()

    def line_up(self, *works: Work, is_brief: bool = True) -> list[BaseException | None]:
        """Run work that adds "first", and the other works after it; return their errors.

        The others ask for their turns in this order while the first one has its turn.
        """
        self.first.begin(is_brief=True)
        errors: list[Future[None]] = []
        with ThreadPoolExecutor(len(works)) as pool:
            for number, work in enumerate(works, start=1):
                errors.append(pool.submit(self.run, work, is_brief=is_brief))
                self.wait_for(number)
            add("first")(self.first)
            self.first.commit()
        return [each.exception() for each in errors]

    def wait_for(self, writers: int) -> None:
        """Wait until this number of writers wait for their turns."""
        deadline = time.monotonic() + 10
        while len(self.shared._waiting) < writers:  # noqa: SLF001 - nothing else needs to know.
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setattr(shared_writer, "_SECONDS", 60)
    shelf = Shelf(tmp_path / "things.db")
    yield shelf
    shelf.first.close()


def add(*names: str) -> Work:
    def work(writer: Writer) -> None:
        for name in names:
            writer.cursor().execute("INSERT INTO things VALUES (?)", (name,))

    return work


def test_waiting_writers_share_a_commit_in_their_order(shelf: Shelf) -> None:
    assert shelf.line_up(add("second"), add("third"), add("fourth")) == [None] * 3

    assert shelf.read() == ["first", "second", "third", "fourth"]
    assert shelf.begun == 1


def test_a_writer_succeeds_only_after_the_commit(shelf: Shelf) -> None:
    seen: list[list[str]] = []

    def look(_writer: Writer) -> None:
        seen.append(shelf.read())

    shelf.line_up(add("second"), look)

    assert seen == [[]]
    assert shelf.read() == ["first", "second"]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failing_writer_undoes_only_its_own_changes(shelf: Shelf, failing: int) -> None:
    works = [add("a1", "a2"), add("b1", "b2"), add("c1", "c2")]
    works.insert(failing - 1, add("d", "first"))

    errors = shelf.line_up(*works)

    assert isinstance(errors.pop(failing - 1), sqlite3.IntegrityError)
    assert errors == [None] * 3
    assert shelf.read() == ["first", "a1", "a2", "b1", "b2", "c1", "c2"]
    assert shelf.begun == 1


def test_a_failing_first_writer_leaves_nothing_behind(shelf: Shelf) -> None:
    shelf.first.begin(is_brief=True)
    add("first")(shelf.first)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(shelf.run, add("second"))
        shelf.wait_for(1)
        shelf.first.rollback()
        assert second.exception() is None

    assert shelf.read() == ["second"]


def io_error() -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [(io_error(), sqlite3.SQLITE_IOERR), (MemoryError(), sqlite3.SQLITE_BUSY)],
)
def test_a_failing_commit_fails_for_all(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def refuse(_writer: Writer) -> None:
        raise ZeroDivisionError

    works = (
        add("second"),
        refuse,
        lambda _writer: monkeypatch.setattr(FailingDriver, "error", error),
    )
    shelf.first.begin(is_brief=True)
    with ThreadPoolExecutor(3) as pool:
        others = []
        for number, work in enumerate(works, start=1):
            others.append(pool.submit(shelf.run, work))
            shelf.wait_for(number)
        add("first")(shelf.first)
        with pytest.raises(sqlite3.OperationalError) as first:
            shelf.first.commit()
        # A refusal fails too, because its reason may never have been stored.
        *waiting, last = [first.value, *(each.exception() for each in others)]
    monkeypatch.setattr(FailingDriver, "error", None)

    assert last is error
    assert [getattr(each, "sqlite_errorcode", 0) for each in waiting] == [code] * 3
    assert len({id(each) for each in waiting}) == 3
    assert shelf.read() == []
    shelf.run(add("again"))
    assert shelf.read() == ["again"]


def test_a_transaction_that_cannot_begin_passes_the_turn_on(shelf: Shelf) -> None:
    shelf.fails = True
    with pytest.raises(RuntimeError):
        shelf.run(add("first"))
    shelf.fails = False
    shelf.run(add("second"))

    assert shelf.read() == ["second"]


def test_a_rollback_without_memory_passes_the_turn_on(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FailingDriver, "rollback", Mock(side_effect=MemoryError))
        shelf.first.begin(is_brief=True)
        add("first")(shelf.first)
        with pytest.raises(MemoryError):
            shelf.first.rollback()
    # The transaction is still open. The next writer undoes it.
    with pytest.raises(sqlite3.OperationalError):
        shelf.run(add("second"))
    shelf.run(add("third"))

    assert shelf.read() == ["third"]


def test_a_transaction_that_sqlite_undoes_is_a_conflict_for_the_others(shelf: Shelf) -> None:
    def undo_all(writer: Writer) -> None:
        # SQLite does the same for some errors, such as a full disk.
        writer.cursor().execute("INSERT OR ROLLBACK INTO things VALUES ('first')")

    shelf.first.begin(is_brief=True)
    add("first")(shelf.first)
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(shelf.run, undo_all)
        shelf.wait_for(1)
        third = pool.submit(shelf.run, add("third"))
        shelf.wait_for(2)
        with pytest.raises(sqlite3.OperationalError) as first:
            shelf.first.commit()

    assert first.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
    assert isinstance(second.exception(), sqlite3.Error)
    assert third.exception() is None
    assert shelf.read() == ["third"]


def test_other_writers_share_no_commit(shelf: Shelf) -> None:
    assert shelf.line_up(add("second"), add("third"), is_brief=False) == [None] * 2

    assert shelf.read() == ["first", "second", "third"]
    assert shelf.begun == 3


def test_a_group_is_bounded_in_size(shelf: Shelf) -> None:
    names = [f"thing {number}" for number in range(20)]

    assert shelf.line_up(*map(add, names)) == [None] * 20

    assert shelf.read() == ["first", *names]
    assert shelf.begun == 2


def test_a_group_is_bounded_in_time(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_writer, "_SECONDS", 0)

    assert shelf.line_up(add("second"), add("third")) == [None] * 2

    assert shelf.begun == 3


def test_a_writer_that_waits_too_long_leaves_the_queue(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "things.db")
    shelf.shared = shelf.share(patience=0.05)
    holder, second = shelf.connect(), shelf.connect()
    holder.begin(is_brief=True)

    with pytest.raises(PoolTimeout):
        second.begin(is_brief=True)
    second.rollback()
    assert shelf.waits == ["timed_out"]
    holder.commit()
    shelf.run(add("third"))

    assert shelf.read() == ["third"]
    for each in (holder, second, shelf.first):
        each.close()


def test_the_last_use_closes_the_connection(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "things.db")
    second = shelf.connect()
    driver = shelf.driver
    assert driver is not None

    shelf.first.begin(is_brief=True)
    add("first")(shelf.first)
    shelf.first.close()
    assert driver.in_transaction is False
    second.close()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    shelf.run(add("again"))
    assert shelf.read() == ["again"]


def test_many_writers_at_once_lose_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    acknowledged: list[str] = []
    begun = threading.Barrier(24)

    def write(writer: int) -> None:
        begun.wait(10)
        for number in range(20):
            name = f"{writer}-{number}"
            try:
                # Every third one adds something that is there already.
                shelf.run(add(name, *(["taken"] if number % 3 == 0 else [])))
            except sqlite3.IntegrityError:
                assert number % 3 == 0
            else:
                acknowledged.append(name)
                assert name in shelf.read()

    shelf.run(add("taken"))
    with ThreadPoolExecutor(24) as pool:
        list(pool.map(write, range(24)))

    assert sorted(shelf.read()) == sorted(["taken", *acknowledged])
    assert len(acknowledged) == 24 * 13
