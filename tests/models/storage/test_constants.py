"""Constant statements do exactly what SQLAlchemy does with them, for random data (M20)."""

import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any, cast, get_args
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import (
    Connection,
    Insert,
    Integer,
    Result,
    Row,
    RowMapping,
    Table,
    Update,
    bindparam,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.engine import IteratorResult
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from models.access.token_status import TokenStatuses
from models.errors import DatabaseUnavailable
from models.events.feed import newest_event, place_events
from models.identity.user import User
from models.identity.user_view import view_user
from models.orders.order_list import OrderFilter, OrderSort, find_orders
from models.orders.order_reading import view_order
from models.storage import constants
from models.storage.base import utcnow
from models.storage.constants import constant, read_rows, write_rows
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord, KeptAnswer
from models.storage.reader import ConnectionReader, Reader
from models.webhooks.attempts import create_deliveries, due_endpoints
from tests.databases import KINDS
from tests.factories import ROOT, Person, make_order, make_product, make_token, make_user
from tests.models.actions import expire_overdue

pytestmark = pytest.mark.mission("M20")

CONSTANTS = constants._constants  # noqa: SLF001 - nothing else needs to know all of them.
TEXTS = ("-", "Ring.", "Zoë ☂ \U0001f6b2", "'; --", "%s %(x)s ?", "a" * 200)


def stored(connection: Connection, statement: Insert | Update) -> list[RowMapping]:
    """The rows of the table that a statement writes, without the numbers that it draws."""
    table = cast("Table", statement.table)
    columns = [each for each in table.columns if not each.identity]
    return list(connection.execute(select(*columns).order_by(*table.primary_key)).mappings())


def same(rows: list[Row[*tuple[Any, ...]]], expected: list[Row[*tuple[Any, ...]]]) -> bool:
    types = [[type(value) for value in row] for row in rows]
    return (
        rows == expected
        and types == [[type(value) for value in row] for row in expected]
        and [row._fields for row in rows] == [row._fields for row in expected]
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[object]:
    """The constant statements that were sent, and compared with what SQLAlchemy does with them."""
    found: set[object] = set()
    send = constants._send  # noqa: SLF001 - the compared part has no name outside its module.

    def compare(
        connection: Connection, compiled: constants._Compiled, rows: list[dict[str, object]]
    ) -> Iterator[object]:
        [statement] = (
            statement
            for statement, dialects in CONSTANTS.items()
            if any(compiled in shapes.values() for shapes in dialects.values())
        )
        found.add(statement)
        if compiled.has_rows:
            sent = list(send(connection, compiled, rows))
            result: Result[*tuple[Any, ...]] = IteratorResult(compiled.metadata, iter(sent))
            assert same(list(result), list(connection.execute(statement, rows[0])))
            return iter(sent)
        with connection.begin_nested() as savepoint:
            connection.execute(statement, rows)
            expected = stored(connection, statement)
            savepoint.rollback()
        send(connection, compiled, rows)
        assert stored(connection, statement) == expected
        return iter(())

    monkeypatch.setattr(constants, "_send", compare)
    return found


def place(database: Database, chance: random.Random, buyer: Person, reservation: timedelta) -> UUID:
    count = chance.randrange(1, 4)
    lines = [
        (make_product(database, name=chance.choice(TEXTS), price=chance.randrange(1, 9**9)), 1)
        for _ in range(count)
    ]
    return make_order(
        database,
        buyer=buyer,
        lines=lines,
        reservation=reservation,
        note=chance.choice([None, *TEXTS]),
        metadata={str(key): chance.choice(TEXTS) for key in range(chance.randrange(3))},
        shipping_address=chance.choice([None, {"name": chance.choice(TEXTS), "city": "Zürich"}]),
    ).id


def constants_of_modules() -> set[object]:
    """The constant statements that modules of the models keep."""
    # The driver's own statement is not sent to the other database.
    own = "models.storage.postgresql"
    names = [name for name in sys.modules if name.startswith("models.") and name != own]
    values = [value for name in names for value in vars(sys.modules[name]).values()]
    return {each for each in values if hasattr(each, "compile") and each in CONSTANTS}


@pytest.mark.parametrize("seed", range(3))
def test_constant_statements_do_what_sqlalchemy_does(
    database: Database, seen: set[object], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - it makes data, not secrets.
    user = make_user(database, name=chance.choice(["Zoë", "O'Brien %s"]))
    buyer, statuses = Person(user.id), TokenStatuses(strict_administrators=True)
    tokens = [make_token(database, user), make_token(database, user, kind="api_key")]
    orders = [place(database, chance, buyer, timedelta(hours=1)) for _ in range(12)]
    place(database, chance, buyer, timedelta(seconds=-1))

    def read(reader: Reader) -> None:
        view_user(reader, buyer, user.id)
        for order_id in orders[:2]:
            view_order(reader, ROOT, order_id)
            view_order(reader, buyer, order_id)
        for actor, sort in product((ROOT, buyer), get_args(OrderSort)):
            pages = partial(find_orders, reader, OrderFilter(), by=actor, sort=sort)
            first = pages(after=None, limit=11)
            pages(after=cast("Any", first.next_key), limit=chance.randrange(1, 13))
        for token in tokens:
            statuses.read(reader, token.key_hash or token.id)

    def write(session: Session) -> None:
        for token in tokens:
            reader = ConnectionReader(session.connection())
            statuses.look_up(reader, token.key_hash or token.id, hold=True)()
        answer = KeptAnswer(
            b"f", 201, [["ETag", chance.choice(TEXTS)]], chance.randbytes(9), user.id
        )
        IdempotencyRecord.store(session, user.id, "key", answer)
        assert IdempotencyRecord.find(session, user.id, "key")() == answer
        database.try_lock(session, 5)()

    database.read(read)
    database.transact(write)
    assert expire_overdue(database) == 1
    assert place_events(database) is create_deliveries(database) is False
    assert database.read(newest_event) is not None
    assert database.read(due_endpoints) == []
    assert constants_of_modules() <= seen


def test_a_default_value_is_not_forgotten(database: Database) -> None:
    without_version = constant(insert(User))
    values = {"name": "A", "email": "a@example.com", "email_key": "a", "created_at": utcnow()}
    with pytest.raises(ValueError, match="value is missing"):
        database.transact(lambda s: write_rows(s.connection(), without_version, [values]))


def test_values_that_are_called_are_called_each_time(database: Database) -> None:
    numbers = iter(range(9))
    number = bindparam(None, callable_=lambda: next(numbers), type_=Integer)
    statement = constant(select(number.label("n")))

    def read(session: Session) -> list[int]:
        return [read_rows(session.connection(), statement, None).one().n for _ in range(2)]

    first, second = database.transact(read, write=False)
    assert second == first + 1


def test_results_of_the_same_statement_are_kept_apart(
    database: Database,
) -> None:
    names = {make_user(database, name=name).id: name for name in ("Ada", "Ben", "Zoë")}
    named = constant(select(User.name).where(User.id == bindparam("number")))

    def read(session: Session) -> list[Any]:
        results = [read_rows(session.connection(), named, {"number": each}) for each in names]
        return [result.scalar_one() for result in reversed(results)]

    for _ in range(2):
        found = database.transact(read, brief=True)
        assert found == list(names.values())[::-1]


def test_cursors_of_statements_that_are_gone_are_not_kept(database: Database) -> None:
    listed = constant(select(User.id).where(User.id.in_(bindparam("ids", expanding=True))))

    def read(session: Session) -> int:
        connection = session.connection()
        for number in range(1, 30):
            read_rows(connection, constant(select(User.id).where(User.id == number)), None).all()
            read_rows(connection, listed, {"ids": list(range(number))}).all()
        return len(connection.info[constants._CURSORS])  # noqa: SLF001 - as above.

    assert database.transact(read) <= 1


def test_a_cursor_with_one_row_is_used_again(database: Database) -> None:
    counted = constant(select(func.count()).select_from(User))

    def read(session: Session) -> list[object]:
        connection = session.connection()
        read_rows(connection, counted, None).scalar()
        return list(connection.info[constants._CURSORS].values())  # noqa: SLF001 - as above.

    first, second = database.transact(lambda session: (read(session), read(session)))
    assert len(first) == 1
    assert first[0] is second[0]


def test_a_statement_is_sent_again_after_it_failed(database: Database) -> None:
    user = make_user(database)
    store = constant(insert(IdempotencyRecord))
    values = {"user_id": user.id, "fingerprint": b"", "status": 200, "owner_id": None}
    values |= {"headers": [], "body": b"", "created_at": utcnow()}
    count = constant(select(func.count()).select_from(IdempotencyRecord))

    def write(*keys: str) -> int | None:
        def work(session: Session) -> int | None:
            for key in keys:
                write_rows(session.connection(), store, [{**values, "key": key}])
            return read_rows(session.connection(), count, None).scalar()

        return database.transact(work, brief=True)

    assert write("a", "b") == 2
    for _ in range(3):
        with pytest.raises(IntegrityError):
            write("c", "a", "d")
    assert write("c", "d") == 4


@pytest.mark.parametrize("count", [1, 2, constants._MOST_ROWS, constants._MOST_ROWS + 1])  # noqa: SLF001 - as above.
def test_any_number_of_rows_is_inserted(database: Database, count: int) -> None:
    user = make_user(database)
    store = constant(insert(IdempotencyRecord))
    values = {"user_id": user.id, "fingerprint": b"f", "status": 200, "owner_id": None}
    values |= {"headers": [["A", "é"]], "created_at": utcnow()}
    rows = [{**values, "key": f"{number} %s", "body": bytes([number])} for number in range(count)]

    def write(session: Session) -> list[RowMapping]:
        write_rows(session.connection(), store, rows)
        return stored(session.connection(), store)

    assert database.transact(write, brief=True) == rows


def test_listeners_see_constant_statements(database: Database) -> None:
    statement = constant(select(func.count()).select_from(User))
    sent: list[object] = []

    def read(session: Session) -> None:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *call: sent.append(call[2]))
        read_rows(connection, statement, None)

    database.transact(read)
    assert len(sent) == 1


def test_errors_are_those_of_sqlalchemy(database: Database) -> None:
    user = make_user(database)
    twice = constant(insert(IdempotencyRecord))
    values = {"user_id": user.id, "key": "CANARY", "fingerprint": b"", "status": 200}
    values |= {"owner_id": None, "headers": [], "body": b"", "created_at": utcnow()}
    with pytest.raises(IntegrityError) as caught:
        database.transact(lambda s: write_rows(s.connection(), twice, [values, values]))
    assert "CANARY" not in str(caught.value).partition("DETAIL")[0]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_connection_whose_loss_was_ignored_is_not_kept(database: Database) -> None:
    counted = constant(select(func.count()).select_from(User))

    def lose(reader: Reader) -> None:
        with suppress(DBAPIError):
            reader.execute(select(func.pg_terminate_backend(func.pg_backend_pid())))

    database.read(lose, single=True)
    assert database.read(lambda reader: reader.execute(counted, None).scalar(), single=True) == 0


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_lost_connection_is_not_used_again(database: Database) -> None:
    counted = constant(select(func.count()).select_from(User))

    def lose(session: Session) -> None:
        connection = session.connection()
        with suppress(psycopg.OperationalError):
            connection.connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")
        read_rows(connection, counted, None)

    with pytest.raises(DatabaseUnavailable):
        database.transact(lose)
    assert database.read(lambda reader: reader.execute(counted, None).scalar()) == 0
