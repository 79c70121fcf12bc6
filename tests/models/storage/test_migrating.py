import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.schema import CreateIndex, CreateTable

from models.errors import DatabaseUnavailable
from models.storage.base import Base
from models.storage.database import Database
from models.storage.migrating import migrate
from models.storage.schema_version import (
    SchemaError,
    known_versions,
    newest_version,
    schema_fault,
)
from tests.databases import make_database_url
from tests.factories import make_user
from tests.models.reading import read_page
from tests.models.together import together

PROCESS = """
import sys
from models.storage.database import Database
from models.storage.migrating import migrate

database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate(database)
print(database.is_ready())
database.dispose()
"""

WITHOUT_ALEMBIC = """
import sys
from models.storage.database import Database
from models.storage.migrating import migrate

migrate(Database(sys.argv[1]))
sys.exit("alembic" in sys.modules)
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


def test_a_database_of_another_program_is_left_alone(empty: Database) -> None:
    create = text("CREATE TABLE users (nickname TEXT)")
    empty.transact(lambda session: session.execute(create), write=True)
    with pytest.raises(SchemaError, match="another program, such as 'users'"):
        migrate(empty)
    assert empty.schema_version() is None


def describe(connection: Connection) -> list[str]:
    """What the database says of its tables and indexes, as the lines that would make them."""
    found = MetaData()
    found.reflect(connection)
    tables = [table for table in found.sorted_tables if table.name != "alembic_version"]
    statements: list[CreateTable | CreateIndex] = [
        *(CreateTable(table) for table in tables),
        *(CreateIndex(index) for table in tables for index in table.indexes),
    ]
    texts = [str(each.compile(connection)) for each in statements]
    if connection.dialect.name == "sqlite":
        # SQLAlchemy cannot read an index on an expression from SQLite, which keeps its statement.
        texts += connection.scalars(text("SELECT sql FROM sqlite_master WHERE type = 'index'"))
    return sorted(line.strip(" \t,") for each in texts for line in (each or "").splitlines())


# Alembic cannot compare an index on an expression in SQLite; `describe` does.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based")
def test_models_and_migrations_agree(empty: Database) -> None:
    migrate(empty)
    with empty.maintenance(patience=5) as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
        migrated = describe(connection)
        # Alembic compares neither defaults and CHECK constraints nor the conditions of indexes.
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        assert describe(connection) == migrated


def test_migrating_prepares_a_database(empty: Database) -> None:
    assert not empty.is_ready()

    migrate(empty)

    assert empty.is_ready()
    make_user(empty)


def test_migrating_again_changes_nothing(empty: Database) -> None:
    migrate(empty)
    make_user(empty)

    migrate(empty)

    assert len(read_page(empty).items) == 1


def test_the_newest_version_is_the_head(empty: Database) -> None:
    migrate(empty)

    with empty.maintenance(patience=5) as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_heads() == (newest_version(),)
    assert ScriptDirectory("models/migrations").get_heads() == [newest_version()]


def test_an_up_to_date_database_is_recognised_without_alembic(
    empty: Database, empty_url: str
) -> None:
    migrate(empty)

    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", WITHOUT_ALEMBIC, empty_url], check=True
    )


def test_migrating_prints_nothing(
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


def test_another_process_may_migrate_between_the_first_look_and_the_lock(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty)
    versions = iter([None, empty.schema_version()])
    monkeypatch.setattr(empty, "schema_version", lambda: next(versions))

    migrate(empty)

    assert next(versions, "asked for") == "asked for"


def test_waiting_for_another_migration_times_out(empty: Database, empty_url: str) -> None:
    other = Database(empty_url)
    with other.maintenance(patience=5):
        start = monotonic()
        with pytest.raises(DatabaseUnavailable):
            migrate(empty, patience=0.3)
        assert monotonic() - start < 3

    migrate(empty)
    other.dispose()


@pytest.mark.postgresql
def test_a_migration_may_be_slow_but_does_not_wait_for_locks(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url, lock_timeout=0.2)
        with database.maintenance(patience=5) as connection:
            for name, value in {
                "statement_timeout": "0",
                "idle_in_transaction_session_timeout": "0",
                "lock_timeout": "200ms",
            }.items():
                assert connection.scalar(text(f"SHOW {name}")) == value
        database.dispose()


def test_a_failed_migration_leaves_nothing(empty: Database) -> None:
    def fail() -> None:
        with empty.maintenance(patience=5) as connection:
            Base.metadata.create_all(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    migrate(empty)
    assert empty.is_ready()


def test_a_migration_cannot_leave_rows_without_their_parent(tmp_path: Path) -> None:
    def orphan(database: Database) -> None:
        with database.maintenance(patience=5) as connection:
            connection.execute(text("CREATE TABLE pets (owner INTEGER REFERENCES users (id))"))
            connection.execute(text("INSERT INTO pets VALUES (7)"))

    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        with pytest.raises(RuntimeError, match="1 rows"):
            orphan(database)
        with database.maintenance(patience=5) as connection:
            assert not inspect(connection).has_table("pets")
        database.dispose()


def tables(database: Database) -> dict[str, dict[str, bool]]:
    """Each column of each table, and whether a row can be inserted that does not mention it."""
    with database.maintenance(patience=5) as connection:
        found = inspect(connection)
        return {
            table: {
                column["name"]: bool(column["nullable"] or column["default"])
                for column in found.get_columns(table)
            }
            for table in found.get_table_names()
        }


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_older_releases_can_use_the_schema_that_each_version_makes(tmp_path: Path) -> None:
    # Version 0007 is the first that releases compare with their own.
    first = known_versions().index("0007")
    with make_database_url("sqlite", tmp_path, migrated=False) as url:
        database = Database(url)
        migrate(database, to="0007")
        before = tables(database)
        oldest = ""
        for version in known_versions()[first + 1 :]:
            migrate(database, to=version)
            after = tables(database)
            since = version[5:].removeprefix("since_")
            # What a version demands of older code, all later ones demand as well.
            assert since >= oldest
            if since == oldest:
                for table, columns in before.items():
                    assert columns.keys() <= after[table].keys(), (version, table)
                    added = after[table].keys() - columns.keys()
                    assert all(after[table][name] for name in added), (version, table, added)
            before, oldest = after, since
        database.dispose()


@pytest.mark.parametrize(("found", "usable"), [("9999", True), ("9999_since_9999", False)])
def test_migrating_a_newer_schema_changes_nothing(
    database: Database, found: str, *, usable: bool
) -> None:
    statement = text("UPDATE alembic_version SET version_num = :version")
    database.transact(lambda session: session.execute(statement, {"version": found}))
    if usable:
        migrate(database)
    else:
        with pytest.raises(SchemaError, match="start the release"):
            migrate(database)
    assert database.schema_version() == found
    newest = {"version": newest_version()}
    database.transact(lambda session: session.execute(statement, newest))


def test_an_empty_database_has_no_version(empty: Database) -> None:
    assert empty.schema_version() is None
    assert "run the command migrate" in str(schema_fault(None))
