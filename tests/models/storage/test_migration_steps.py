"""Migrations of databases that are full and in use: releases side by side, and the way back."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
from sqlalchemy import Engine, MetaData, TextClause, event, text
from sqlalchemy.orm import Session

from models.errors import DatabaseUnavailable
from models.storage.database import Database
from models.storage.migrating import migrate
from models.storage.schema_version import SchemaError, known_versions, newest_version
from tests.databases import make_database_url
from tests.factories import STATUSES, make_order

Columns: TypeAlias = dict[str, list[str]]
"""The columns of each table; tables follow those that they refer to."""

CREATED = re.compile(r"\s*CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
INDEXED = re.compile(r"\s*CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:IF NOT EXISTS )?\w+ ON (\w+)")
INDEXING = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database()
    AND query LIKE '% INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
"""
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"

pytestmark = [
    pytest.mark.mission("M32"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]


@pytest.fixture
def filled(kind: str, tmp_path: Path) -> Iterator[Database]:
    """A database of its own, with orders in every state."""
    with make_database_url(kind, tmp_path, migrated=False) as url:
        database = Database(url)
        migrate(database)
        for status in STATUSES:
            make_order(database, status=status, note="Ring twice.")
        yield database
        database.dispose()


def columns(database: Database) -> Columns:
    found = MetaData()
    with database.maintenance(patience=5) as connection:
        found.reflect(connection)
    return {
        table.name: list(table.columns.keys())
        for table in found.sorted_tables
        if table.name != "alembic_version"
    }


def read(database: Database, chosen: Columns) -> dict[str, list[Any]]:
    def work(session: Session) -> dict[str, list[Any]]:
        return {
            table: sorted(map(tuple, session.execute(select(table, names))), key=repr)
            for table, names in chosen.items()
        }

    return database.transact(work)


def select(table: str, names: list[str]) -> TextClause:
    return text(f"SELECT {', '.join(names)} FROM {table}")  # noqa: S608 - our own tables.


def copy_tables(database: Database, chosen: Columns) -> None:
    def work(session: Session) -> None:
        for table, names in chosen.items():
            session.execute(text(f"CREATE TABLE old_{table} AS {select(table, names)}"))

    database.transact(work)


def write_copies(database: Database, chosen: Columns) -> None:
    """Delete all rows, and write the copied ones as a release that knows these columns."""
    everything = columns(database)

    def work(session: Session) -> None:
        postgresql = session.connection().dialect.name == "postgresql"
        for table in reversed(everything):
            if not table.startswith("old_"):
                session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own tables.
        for table, names in chosen.items():
            given = f"({', '.join(names)})" + " OVERRIDING SYSTEM VALUE" * postgresql
            rows = select(f"old_{table}", names)
            session.execute(text(f"INSERT INTO {table} {given} {rows}"))
            session.execute(text(f"DROP TABLE old_{table}"))

    database.transact(work)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that the block sends to databases."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def matches(pattern: re.Pattern[str], seen: list[str]) -> set[str]:
    return {found[1] for each in seen if (found := pattern.match(each))}


def test_each_version_takes_what_the_release_before_writes(filled: Database, kind: str) -> None:
    # Version 0007 is the first that releases compare with their own.
    versions = known_versions()[known_versions().index("0007") :]
    for version, older in pairwise(reversed(versions)):
        migrate(filled, to=older)
        known = columns(filled)
        rows = read(filled, known)
        assert len(rows["orders"]) == len(STATUSES)
        used = {table: known[table] for table in known if rows[table]}
        copy_tables(filled, used)

        with statements() as seen:
            migrate(filled, to=version)
        assert read(filled, known) == rows, f"{version} changes what {older} has written"
        assert matches(INDEXED, seen) <= matches(CREATED, seen) or kind == "sqlite", (
            f"{version} must use add_index for tables that are in use"
        )

        write_copies(filled, used)
        assert read(filled, known) == rows, f"{version} does not keep what {older} writes"

        migrate(filled, to=older)
        assert read(filled, known) == rows, f"going back from {version} loses more than it added"


def test_migrations_lead_back_to_an_empty_database(filled: Database) -> None:
    users = {"users": ["id", "name", "email"]}
    rows = read(filled, users)
    migrate(filled, to=known_versions()[0])
    assert columns(filled).keys() == {"users"}
    assert not filled.is_ready()

    migrate(filled)

    assert filled.is_ready()
    assert read(filled, users) == rows


def test_an_unknown_target_is_refused(database: Database) -> None:
    with pytest.raises(
        SchemaError, match=f"no version '9999': the newest one is {newest_version()}"
    ):
        migrate(database, to="9999")


@pytest.mark.postgresql
def test_indexes_are_added_while_others_write(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path, migrated=False) as url:
        database = Database(url)
        migrate(database)
        make_order(database)
        migrate(database, to="0012")
        for interrupted in (True, False):
            with psycopg.connect(url) as writer, psycopg.connect(url, autocommit=True) as other:
                # Its end is what the index waits for.
                writer.execute("UPDATE orders SET version = version + 1")
                failures: list[DatabaseUnavailable] = []
                thread = threading.Thread(target=attempt, args=(database, failures))
                thread.start()
                pid = wait_for_index(other)
                # A transaction that waited for the index could not write to the table.
                other.execute("SET lock_timeout = '1s'")
                other.execute("UPDATE orders SET note = 'none' WHERE status = 'none'")
                if interrupted:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            thread.join(60)
            assert bool(failures) == interrupted
            invalid = database.transact(lambda session: session.scalar(text(INVALID)))
            assert invalid == int(interrupted)
        assert database.is_ready()
        database.dispose()


def attempt(database: Database, failures: list[DatabaseUnavailable]) -> None:
    try:
        migrate(database)
    except DatabaseUnavailable as failure:
        failures.append(failure)


def wait_for_index(other: psycopg.Connection) -> int:
    """Wait until an index waits for other transactions, and return the process that makes it."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if found := other.execute(INDEXING).fetchone():
            return int(found[0])
        time.sleep(0.02)
    pytest.fail("no index waits for the open transaction")
