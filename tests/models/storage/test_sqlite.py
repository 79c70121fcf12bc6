import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, make_url, select, text, update
from sqlalchemy.orm import Session

from models.errors import DatabaseUnavailable
from models.identity.user import User
from models.identity.user_list import find_users
from models.storage.database import Database
from models.storage.migrating import migrate
from models.storage.reader import Reader
from tests.databases import make_database_url
from tests.factories import make_user
from tests.models.reading import read_page
from tests.models.together import together

ROOT = Path(__file__).parents[3]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with make_database_url("sqlite", tmp_path) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.dispose()


def count_users(reader: Reader) -> int:
    return reader.execute(select(func.count()).select_from(User)).scalar_one()


def pragma(database: Database, name: str) -> object:
    return database.transact(lambda s: s.scalar(text(f"PRAGMA {name}")), write=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("journal_mode", "wal"), ("foreign_keys", 1), ("secure_delete", 1), ("synchronous", 2)],
)
def test_every_connection_is_configured(database: Database, name: str, value: object) -> None:
    results = together(*[lambda: pragma(database, name)] * 4)

    assert results == [value] * 4


def test_opening_waits_for_a_process_that_creates_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    # SQLite refuses at once to change the journal of a file that somebody is writing to.
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ("COMMIT",))
    release.start()
    database = Database(f"sqlite:///{file}")

    migrate(database)

    assert pragma(database, "journal_mode") == "wal"
    release.join()
    other.close()
    database.dispose()


def test_nothing_is_opened_before_its_first_use(tmp_path: Path) -> None:
    file = tmp_path / "var" / "data" / "concord.db"
    database = Database(f"sqlite:///{file}")

    assert file.parent.is_dir()
    assert not file.exists()
    database.dispose()


def test_a_writer_takes_its_lock_before_it_reads(database: Database, url: str) -> None:
    impatient = Database(url, lock_timeout=0.1)

    def work(session: Session) -> None:
        find_users(session, limit=1)
        with pytest.raises(DatabaseUnavailable):
            make_user(impatient)

    database.transact(work, write=True)
    make_user(impatient)
    impatient.dispose()


def test_the_writers_of_a_process_are_counted_as_one_connection(database: Database) -> None:
    pool = database.pools["writes"]
    counts = [(pool.size(), pool.opened(), pool.checkedout())]

    def work(session: Session) -> None:
        session.connection()
        counts.append((pool.size(), pool.opened(), pool.checkedout()))

    together(*[lambda: database.transact(work, brief=True)] * 3)
    counts.append((pool.size(), pool.opened(), pool.checkedout()))

    assert counts == [(1, 0, 0), *[(1, 1, 1)] * 3, (1, 1, 0)]


def test_writers_of_several_processes_take_turns(url: str) -> None:
    # Each has a pool of its own, as if it were another process: nothing but the file is shared.
    databases = [Database(url) for _ in range(6)]

    def write_often(database: Database) -> None:
        for _ in range(10):
            make_user(database)

    results = together(*(lambda each=each: write_often(each) for each in databases))

    assert results == [None] * 6
    assert len(read_page(databases[0]).items) == 60
    for each in databases:
        each.dispose()


def test_a_full_disk_is_unavailable_and_harmless(database: Database) -> None:
    def work(session: Session) -> None:
        session.execute(text("PRAGMA max_page_count = 1"))
        for number in range(500):
            User.register(
                session, name="x" * 100, email=f"{number}@example.com", password_hash=None
            )

    with pytest.raises(DatabaseUnavailable):
        database.transact(work, write=True)
    assert not read_page(database).items


def test_a_full_disk_fails_only_the_work_that_needs_room(database: Database) -> None:
    def fill(session: Session) -> None:
        connection = session.connection()
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        try:
            connection.exec_driver_sql("CREATE TABLE large AS SELECT randomblob(1000000) AS bytes")
        finally:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")

    def register(number: int, session: Session) -> None:
        User.register(session, name="Alice", email=f"{number}@example.com", password_hash=None)

    works: list[Callable[[Session], None]] = [partial(register, number) for number in range(12)]
    works[4:4] = [fill] * 4
    results = together(*(partial(database.transact, work, brief=True) for work in works))

    assert [type(each) for each in results[4:8]] == [DatabaseUnavailable] * 4
    assert [*results[:4], *results[8:]] == [None] * 12
    assert len(read_page(database).items) == 12


def test_a_read_only_disk_is_unavailable(database: Database) -> None:
    def work(session: Session) -> None:
        session.execute(text("PRAGMA query_only = 1"))
        User.register(session, name="Alice", email="alice@example.com", password_hash=None)

    with pytest.raises(DatabaseUnavailable):
        database.transact(work, write=True)


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")

    assert not database.is_ready()
    with pytest.raises(DatabaseUnavailable):
        read_page(database)


def test_a_file_without_tables_is_not_ready(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path, migrated=False) as url:
        database = Database(url)
        assert not database.is_ready()
        database.dispose()


def test_a_file_locked_by_another_program_is_unavailable(url: str) -> None:
    database = Database(url, lock_timeout=0.2)
    assert database.is_ready()
    database.dispose()
    other = sqlite3.connect(make_url(url).database or "", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(DatabaseUnavailable):
        make_user(database)
    assert not database.is_ready()
    with pytest.raises(BlockingIOError):
        database.glance(count_users)

    other.close()
    make_user(database)
    assert database.glance(count_users) == 1
    assert database.is_ready()
    database.dispose()


def test_a_glance_does_not_wait_for_a_connection(database: Database) -> None:
    def glance_again(_reader: Reader) -> None:
        with pytest.raises(BlockingIOError):
            database.glance(count_users)

    assert database.can_glance
    database.glance(lambda _: database.glance(glance_again))
    assert database.glance(count_users) == 0


def test_a_glance_runs_only_one_statement(database: Database) -> None:
    with pytest.raises(RuntimeError, match="only one statement"):
        database.glance(lambda reader: count_users(reader) + count_users(reader))


def test_two_processes_see_each_others_writes(tmp_path: Path) -> None:
    """A process that lost its locks would go on with a log that the other has removed."""
    url = f"sqlite:///{tmp_path / 'concord.db'}"
    database = Database(url)
    migrate(database)

    def connect_twice(session: Session) -> None:
        # A second connection is opened while the first is kept, as threads do.
        session.connection()
        assert database.is_ready()

    for number in range(3):
        database.transact(connect_twice, write=False)
        add = (
            "import sys; from models.storage.database import Database;"
            "from models.identity.user import User;"
            "database = Database(sys.argv[1]); database.transact(lambda session: User.register("
            "session, name='Ada', email=sys.argv[2], password_hash=None), write=True);"
            "database.dispose()"
        )
        email = f"other{number}@concord.example"
        subprocess.run([sys.executable, "-c", add, url, email], check=True, cwd=ROOT)  # noqa: S603 - our own interpreter and code.
        seen = database.transact(partial(User.by_email, email=email), write=False)
        assert seen is not None
    database.dispose()


def test_a_late_writer_shares_no_commit_when_it_restarts(database: Database) -> None:
    begun: list[object] = []

    def work(session: Session) -> None:
        seen = session.scalar(select(func.count()).select_from(User))
        begun.append(session.connection().get_execution_options()["concord_begin"])
        if len(begun) == 1:
            make_user(database)
        session.execute(update(User).values(name=f"{seen} users"))

    database.transact(work, late=True, brief=True)

    assert begun == ["BEGIN", "BEGIN IMMEDIATE"]
