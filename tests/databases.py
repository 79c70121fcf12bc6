"""Fresh databases for tests: migrated once in a process, then copied for each test."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from models.database import Database
from models.migrating import migrate

SERVER = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://127.0.0.1:5432/postgres")
"""A PostgreSQL server on which the tests may create databases."""

KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql))
"""Parameters for a fixture or a test that runs on every database."""


@contextmanager
def make_database_url(kind: str, tmp_path: Path, *, migrated: bool = True) -> Iterator[str]:
    """Make a database of its own for the block and give its URL.

    Without a PostgreSQL server the test is skipped, or fails where CI is set to "true".
    """
    if kind == "sqlite":
        file = tmp_path / f"{uuid4().hex}.db"
        if migrated:
            shutil.copyfile(_sqlite_template(), file)
        yield f"sqlite:///{file}"
        return
    _require_postgresql()
    name = f"concord_test_{uuid4().hex}"
    _create(name, template=_postgresql_template() if migrated else "template1")
    try:
        yield _url(name)
    finally:
        _drop(name)


@cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="concord-test-"))
    atexit.register(shutil.rmtree, folder)
    file = folder / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


@cache
def _postgresql_template() -> str:
    name = f"concord_test_template_{uuid4().hex}"
    _create(name, template="template1")
    atexit.register(_drop, name)
    _migrate(_url(name))
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


def _create(name: str, *, template: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def _drop(name: str) -> None:
    statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(statement)
