"""Background jobs find their rows by indexes, and change few rows at a time (M20)."""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, Connection, Engine, Table, event, func, insert, select, update
from sqlalchemy.orm import Session

import app
from api.server.settings import Settings
from api.server.upkeep import Job
from models.access.session import RefreshToken
from models.events.event import Event
from models.files.stored_picture import StoredPicture
from models.identity.audit_event import AuditEvent
from models.identity.known_address import KnownAddress
from models.identity.one_time_token import OneTimeToken
from models.identity.token import Token
from models.identity.user import User
from models.messages.mailbox import MailboxUse
from models.messages.message import Message
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord
from models.storage.identifiers import first_id_from
from models.storage.reader import Reader
from tests.databases import KINDS, make_database_url
from tests.factories import make_user
from tests.models.identity.test_erasure_declared import declared, make_value
from tests.models.plans import explain_all

MOST = 500
ROWS = 510
"""Rows that are too old, in each table: more than a job may change in one transaction."""
TABLES: dict[str, type[Any]] = {
    "idempotency": IdempotencyRecord,
    "tokens": Token,
    "audit": AuditEvent,
    "events": Event,
    "addresses": KnownAddress,
    "links": OneTimeToken,
    "messages": Message,
    "mailboxes": MailboxUse,
    "pictures": StoredPicture,
}
SCANNING = {"pictures", "backlog"}
"""Jobs that must look at whole tables: every stored picture may be one that nobody uses, and every
row of `messages` is one that waits and is counted."""

Query = tuple[str, Any]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> Iterator[str]:
    with make_database_url(kind, tmp_path) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.dispose()


@pytest.fixture
def jobs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Job]]:
    """The jobs of an application that does not run them."""
    found: list[Job] = []

    def take(jobs: Sequence[Job], *_: object, **_options: object) -> None:
        found.extend(jobs)

    monkeypatch.setattr(app, "Upkeep", take)
    environment = {
        "APP_ENV": "test",
        "SIGNING_KEY_FILE": str(tmp_path / "key.pem"),
        "DATABASE_URL": url,
        "STORAGE_URL": f"file:{tmp_path / 'files'}",
        "MAIL_URL": f"file:{tmp_path / 'mail'}",
        "UNCLAIMED_SECONDS": "604800",
        "ORDER_PERSONAL_DATA_SECONDS": "2592000",
    }
    application = app.create_app(Settings.from_environment(environment))
    yield [job for job in found if job.name != "readiness"]
    application.close()


@contextmanager
def watching(name: str, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(Engine, name, listener)
    try:
        yield
    finally:
        event.remove(Engine, name, listener)


@contextmanager
def statements() -> Iterator[list[Query]]:
    """The statements that are sent in the block."""
    sent: list[Query] = []

    def note(_connection: object, _cursor: object, sql: str, values: object, *_: object) -> None:
        sent.append((sql, values))

    with watching("before_cursor_execute", note):
        yield sent


@contextmanager
def changes() -> Iterator[list[int]]:
    """The numbers of rows that transactions on SQLite change in the block, cascades included."""
    begun: dict[int, int] = {}
    counts: list[int] = []

    def total(connection: Connection) -> int:
        used = connection.connection.dbapi_connection
        return int(getattr(getattr(used, "driver", used), "total_changes", 0))

    def begin(connection: Connection) -> None:
        begun[id(connection)] = total(connection)

    def commit(connection: Connection) -> None:
        counts.append(total(connection) - begun[id(connection)])

    with watching("begin", begin), watching("commit", commit):
        yield counts


def fill(session: Session, user_id: int) -> None:
    """Store old rows of every table that a job empties, and refresh tokens of one session."""
    old = utcnow() - timedelta(days=1000)

    def value(column: Column[Any], number: int) -> object:
        kind = declared(column)
        if kind is UUID and not column.foreign_keys:
            return UUID(int=first_id_from(old).int + number)
        return old if kind is dt.datetime else make_value(session, column, user_id)

    def rows(table: Table) -> list[dict[str, object]]:
        needed = [
            each
            for each in table.columns
            if not (each.nullable or each.identity)
            and (not each.default or each.name == "created_at")
        ]
        return [{each.key: value(each, number) for each in needed} for number in range(ROWS)]

    for model in TABLES.values():
        session.execute(insert(model), rows(model.__table__))
    ended = [UUID(int=first_id_from(old).int + number) for number in range(ROWS)]
    session.execute(
        insert(RefreshToken),
        [
            {"hash": b"%d" % number, "session_id": ended[number % 3], "created_at": old}
            for number in range(3 * ROWS)
        ],
    )
    session.execute(
        update(Event).values(position=Event.sequence),
        execution_options={"synchronize_session": False},
    )
    session.execute(update(User).values(tokens_ended_at=old))


def run(jobs: Sequence[Job]) -> dict[str, list[int]]:
    """Run jobs until nothing is left to do, and give the rows that each transaction changed."""
    counts: dict[str, list[int]] = defaultdict(list)
    for job in jobs:
        with changes() as changed:
            for _ in range(3 * ROWS):
                if job.work() is not True:
                    break
        counts[job.name] = changed
    return counts


def count(reader: Reader, model: type[Any]) -> int:
    return reader.scalar(select(func.count()).select_from(model)) or 0


@pytest.fixture
def filled(database: Database) -> Database:
    user = make_user(database)
    database.transact(lambda session: fill(session, user.id))
    return database


@pytest.mark.mission("M20")
def test_jobs_change_few_rows_at_a_time(filled: Database, jobs: list[Job], kind: str) -> None:
    counts = run(jobs)
    if kind == "sqlite":
        assert max(max(each, default=0) for each in counts.values()) == MOST
        assert {name for name, each in counts.items() if sum(each) >= ROWS - 1} >= TABLES.keys()
    kept = {model: filled.read(partial(count, model=model)) for model in TABLES.values()}
    assert {model: number for model, number in kept.items() if number > 1} == {}


@pytest.mark.mission("M20")
def test_idle_jobs_take_no_writer_and_read_by_indexes(
    database: Database, jobs: list[Job], kind: str
) -> None:
    make_user(database)
    run(jobs)
    for job in jobs:
        with statements() as sent:
            job.work()
        for sql, _ in sent:
            assert sql == "BEGIN" or sql.startswith("SELECT"), (job.name, sql)
            assert "FOR UPDATE" not in sql, (job.name, sql)
        queries = [each for each in sent if each[0].startswith("SELECT")]
        plans = database.transact(partial(explain_all, kind=kind, queries=queries))
        for plan in plans:
            assert not plan.whole_tables or job.name in SCANNING, (job.name, plan.text)
