"""Databases for tests, each as good as new: migrated once in a process, then copied or emptied."""

import atexit
import importlib
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Delete, Update, make_url, update

import models
from models.accounts.ended_tokens import clear_ended_accounts, delete_ended_tokens
from models.identity.user import User
from models.set_aside import SetAside
from models.storage.base import utcnow
from models.storage.batches import change_batch
from models.storage.database import Database
from models.storage.migrating import migrate

# Whatever looks at every table has to see those that only some programs import.
for module in pkgutil.walk_packages(models.__path__, "models."):
    if "migrations" not in module.name:
        importlib.import_module(module.name)

SERVER = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://127.0.0.1:5432/postgres")
"""A PostgreSQL server on which the tests may create databases."""

KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql))
"""Parameters for a fixture or a test that runs on every database."""

CLOSE_SESSIONS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""
WITHOUT_STATISTICS = """
    DO $$ BEGIN EXECUTE (
        SELECT string_agg(format('ALTER TABLE %I SET (autovacuum_enabled = false)', relname), ';')
        FROM pg_stat_user_tables
    ); END $$
"""
"""Only a test makes statistics, because those of deleted rows would mislead the planner."""
DELETIONS = """
    SELECT format(
        'WITH %s SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence',
        string_agg(format('%1$I AS (DELETE FROM %1$I)', relname), ', ')
    )
    FROM pg_stat_user_tables JOIN pg_class USING (relname) WHERE relname <> 'alembic_version'
    HAVING NOT bool_or(reltuples >= 0 OR pg_relation_size(relid) > 10 * 8192 OR EXISTS (
        SELECT FROM pg_index WHERE indrelid = relid AND pg_relation_size(indexrelid) > 2 * 8192
    ))
"""
"""The statement that makes a small database as good as new, in a tenth of the time of TRUNCATE.

There is none if the planner could tell the difference, by statistics or by the size of an index.
It takes a table without statistics for one of ten pages or more.
"""

_MEMORY = Path("/dev/shm")  # noqa: S108 - for files in folders of our own.
_ROOM = 2**30
"""Bytes that must be free in `_MEMORY` before a test takes some."""

_spare: list[str] = []  # PostgreSQL databases of this process that no test is using.


@contextmanager
def make_database_url(kind: str, tmp_path: Path, *, migrated: bool = True) -> Iterator[str]:
    """Make a database of its own for the block and give its URL.

    Neither kind waits for the disk: SQLite's files are in memory where there is room, and of
    PostgreSQL it is not asked. No test takes the power away.

    Without a PostgreSQL server the test is skipped, or fails where CI is set to "true".
    """
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir=fast_folder(tmp_path)) as folder:
            file = Path(folder) / "concord.db"
            if migrated:
                shutil.copyfile(_sqlite_template(), file)
            yield f"sqlite:///{file}"
        return
    _require_postgresql()
    with _migrated() if migrated else _empty() as name:
        yield _url(name)


def change_all(database: Database, make: Callable[[], Delete | Update]) -> None:
    """Do a background change at once, however many batches it takes."""
    while change_batch(database, make):
        pass


def delete_ended(database: Database) -> None:
    """Delete what ended tokens and erased accounts left, as if an hour had passed."""
    ago = update(User).where(User.tokens_ended_at.is_not(None))
    aged = ago.values(tokens_ended_at=utcnow() - timedelta(hours=1))
    database.transact(lambda session: session.execute(aged))
    aside = SetAside[int](_blame)
    while clear_ended_accounts(database, aside) or delete_ended_tokens(database):
        pass


def _blame(key: object, error: Exception) -> None:
    raise AssertionError(key) from error


@contextmanager
def _empty() -> Iterator[str]:
    name = _create()
    try:
        yield name
    finally:
        _drop(name)


@contextmanager
def _migrated() -> Iterator[str]:
    if _spare:
        name = _spare.pop()
    else:
        name = _create(_postgresql_template())
        atexit.register(_drop, name)
    try:
        yield name
    finally:
        with psycopg.connect(_url(name), autocommit=True) as connection:
            connection.execute(CLOSE_SESSIONS)
            deletions = connection.execute(DELETIONS).fetchone()
            if deletions:
                connection.execute(deletions[0])
        if deletions:
            _spare.append(name)
        else:
            _drop(name)


def fast_folder(other: Path) -> Path:
    """A folder in memory where there is room, or else the other one."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
        return _MEMORY
    return other


@cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="concord-test-"))
    atexit.register(shutil.rmtree, folder)
    file = folder / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@cache
def _postgresql_template() -> str:
    name = _create()
    atexit.register(_drop, name)
    _migrate(_url(name))
    _execute(_url(name), WITHOUT_STATISTICS)
    return name


@cache
def _postgresql_error() -> str | None:
    try:
        psycopg.connect(SERVER, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return f"there is no PostgreSQL server at TEST_POSTGRESQL_URL: {error}"
    return None


def _require_postgresql() -> None:
    error = _postgresql_error()
    if error is not None and os.environ.get("CI") == "true":
        pytest.fail(error)
    if error is not None:
        pytest.skip(error)


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.dispose()


def _url(name: str) -> str:
    return make_url(SERVER).set(database=name).render_as_string(hide_password=False)


def _create(template: str = "template1") -> str:
    name = f"concord_test_{uuid4().hex}"
    names = [sql.Identifier(each) for each in (name, template)]
    _execute(SERVER, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    _execute(SERVER, sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(names[0]))
    return name


def _drop(name: str) -> None:
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    _execute(SERVER, statement.format(sql.Identifier(name)))


def _execute(url: str, statement: LiteralString | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
