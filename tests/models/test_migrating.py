import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from models.base import Base
from models.database import Database
from models.errors import DatabaseUnavailable
from models.migrating import migrate
from models.user import User
from tests.databases import make_database_url
from tests.models.people import make_user, read_page
from tests.models.together import together

PROCESS = """
import sys
from models.database import Database
from models.migrating import migrate

database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate(database)
print(database.is_ready())
"""


@pytest.fixture
def empty_url(kind: str, tmp_path: Path) -> Iterator[str]:
    with make_database_url(kind, tmp_path, migrated=False) as url:
        yield url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.dispose()


def describe(connection: Connection) -> object:
    """All that the database knows of the tables, in the same order every time."""
    inspector = inspect(connection)
    tables = [User.__tablename__]
    assert set(inspector.get_table_names()) - {"alembic_version"} == set(tables)
    parts = (
        inspector.get_columns,
        inspector.get_indexes,
        inspector.get_check_constraints,
        inspector.get_unique_constraints,
        inspector.get_foreign_keys,
        inspector.get_pk_constraint,
    )
    return [sorted(map(repr, part(table))) for table in tables for part in parts]


def test_models_and_migrations_agree(database: Database, empty: Database) -> None:
    with database.maintenance(patience=5) as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
        migrated = describe(connection)
    # Alembic compares neither CHECK constraints nor the conditions of indexes.
    with empty.maintenance(patience=5) as connection:
        Base.metadata.create_all(connection)
        assert describe(connection) == migrated


def test_migrating_makes_a_database_ready(empty: Database) -> None:
    assert not empty.is_ready()

    migrate(empty)

    assert empty.is_ready()
    make_user(empty)


def test_migrating_again_changes_nothing(empty: Database) -> None:
    migrate(empty)
    make_user(empty)

    migrate(empty)

    assert len(read_page(empty).items) == 1


def test_migrating_says_nothing(
    empty: Database, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    migrate(empty)

    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    processes = [
        subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-W", "error", "-c", PROCESS, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    assert [process.communicate(timeout=60) for process in processes] == [("True\n", "")] * 4


def test_threads_that_start_together_migrate_once(empty_url: str) -> None:
    databases = [Database(empty_url) for _ in range(4)]

    results = together(*(lambda each=each: migrate(each) for each in databases))

    assert results == [None] * 4
    for database in databases:
        assert database.is_ready()
        database.dispose()


def test_waiting_for_another_migration_ends(empty: Database, empty_url: str) -> None:
    other = Database(empty_url)
    with other.maintenance(patience=5):
        start = monotonic()
        with pytest.raises(DatabaseUnavailable):
            migrate(empty, patience=0.3)
        assert monotonic() - start < 3

    migrate(empty)
    other.dispose()


def test_a_migration_that_fails_leaves_nothing(empty: Database) -> None:
    def fail() -> None:
        with empty.maintenance(patience=5) as connection, connection.begin_nested():
            Base.metadata.create_all(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    migrate(empty)
    assert empty.is_ready()


def test_a_migration_cannot_leave_rows_without_their_parent(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        with pytest.raises(RuntimeError, match="1 rows"), database.maintenance(patience=5) as c:
            c.execute(text("CREATE TABLE orders (owner INTEGER REFERENCES users (id))"))
            c.execute(text("INSERT INTO orders VALUES (7)"))
        with database.maintenance(patience=5) as connection:
            assert "orders" not in inspect(connection).get_table_names()
        database.dispose()
