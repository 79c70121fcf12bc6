"""The SQL of a tuned peer without SQLAlchemy: text for sqlite3 or psycopg, and rows as tuples."""

import contextlib
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import JsonDumper, set_json_dumps, set_json_loads

from tests.bench.peers import tuned
from tests.bench.peers.derived import Amounts
from tests.bench.peers.settings import DATABASE_URL
from tests.bench.peers.tuned import Actor, Refused

EMBEDDED = DATABASE_URL.startswith("sqlite:///")
BUSY_SECONDS = 30


class OrderColumns(NamedTuple):
    id: Any
    user_id: int
    status: str
    currency: str
    total_amount: int
    paid_amount: int
    refunded_amount: int
    bounced_amount: int
    unapplied_amount: int
    unapplied_refunded_amount: int
    note: str | None
    shipping_address: Any
    metadata: Any
    version: int
    expires_at: Any
    created_at: Any
    updated_at: Any


class Order(Amounts, OrderColumns):
    """A row of the table."""


class Line(NamedTuple):
    order_id: Any
    number: int
    product_id: int
    sku: str
    name: str
    unit_amount: int
    currency: str
    quantity: int
    shipped: int
    returned: int


class Product(NamedTuple):
    id: int
    sku: str
    name: str
    price_amount: int
    currency: str
    on_hand: int
    reserved: int
    active: bool
    version: int
    archived_at: Any


def sql(text: str) -> str:
    """Mark parameters in the syntax of the driver."""
    return text if EMBEDDED else re.sub(r":(\w+)", r"%(\1)s", text)


def insert(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f":{name}" for name in columns)
    return sql(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})")  # noqa: S608 - Our own names.


STANDING = sql(
    "SELECT users.role FROM tokens JOIN users ON tokens.user_id = users.id"
    " WHERE tokens.id = :session_id AND tokens.user_id = :user_id AND tokens.ended_at IS NULL"
    " AND tokens.expires_at > :now AND tokens.token_version = users.token_version"
    " AND users.active AND users.erased_at IS NULL"
)
USER = sql(
    f"SELECT {', '.join(tuned.SHOWN)} FROM users WHERE id = :user_id AND erased_at IS NULL"  # noqa: S608 - As above.
)
SELECT_ORDERS = f"SELECT {', '.join(Order._fields)} FROM orders"  # noqa: S608 - As above.
ORDERS = sql(f"{SELECT_ORDERS} ORDER BY id DESC LIMIT :most")
OWN_ORDERS = sql(f"{SELECT_ORDERS} WHERE user_id = :user_id ORDER BY id DESC LIMIT :most")
LINES = f"SELECT {', '.join(Line._fields)} FROM order_lines WHERE order_id IN"  # noqa: S608 - As above.
PRODUCTS = f"SELECT {', '.join(Product._fields)} FROM products WHERE id IN"  # noqa: S608 - As above.
LOCKED = "ORDER BY id" if EMBEDDED else "ORDER BY id FOR NO KEY UPDATE"
KEPT = sql(
    "SELECT fingerprint, body FROM idempotency_records WHERE user_id = :user_id AND key = :key"
)
RESERVE = sql(
    "UPDATE products SET reserved = reserved + :quantity, version = version + 1,"
    " updated_at = :now WHERE id = :product_id"
)
WRITTEN = {
    "orders": Order._fields,
    "order_lines": Line._fields,
    "order_events": (
        *("order_id", "number", "action", "status", "lines"),
        *("actor_id", "created_at"),
    ),
    "stock_entries": (
        *("product_id", "kind", "on_hand", "reserved", "order_id"),
        *("actor_id", "created_at"),
    ),
    "events": ("id", "type", "subject", "version", "facts", "created_at"),
    "idempotency_records": (
        *("user_id", "key", "owner_id", "fingerprint"),
        *("status", "headers", "body", "created_at"),
    ),
}
INSERT = {table: insert(table, columns) for table, columns in WRITTEN.items()}


class Local(threading.local):
    """A connection for each thread."""

    def __init__(self) -> None:
        self.connection: Any = open_file() if EMBEDDED else open_session()


def open_file() -> sqlite3.Connection:
    connection = sqlite3.connect(
        DATABASE_URL.removeprefix("sqlite:///"),
        timeout=BUSY_SECONDS,
        isolation_level=None,
        detect_types=sqlite3.PARSE_DECLTYPES,
    )
    for pragma in ("journal_mode = WAL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def open_session() -> psycopg.Connection:
    connection = psycopg.connect(DATABASE_URL, autocommit=True)
    for kind in (dict, list):
        connection.adapters.register_dumper(kind, JsonDumper)
    # JSON from the database goes into the response unchanged.
    set_json_dumps(orjson.dumps, connection)
    set_json_loads(orjson.Fragment, connection)
    return connection


def as_text(raw: bytes) -> str:
    """Write an id from SQLite as it appears in JSON."""
    text = raw.decode()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# Does the work of SQLAlchemy's types for SQLite; the results are only written to JSON.
sqlite3.register_converter("BOOLEAN", b"1".__eq__)
sqlite3.register_converter("CHAR", as_text)
sqlite3.register_converter("DATETIME", lambda raw: raw.replace(b" ", b"T").decode() + "Z")
sqlite3.register_converter("JSON", orjson.Fragment)
sqlite3.register_adapter(UUID, lambda value: value.hex)
sqlite3.register_adapter(datetime, lambda value: value.strftime("%Y-%m-%d %H:%M:%S.%f"))
for kind in (dict, list):
    sqlite3.register_adapter(kind, lambda value: orjson.dumps(value).decode())

local = Local()
# SQLite has one writer. A thread that waits for a lock is woken; one that waits for SQLite polls.
turn = threading.Lock() if EMBEDDED else contextlib.nullcontext()


@contextlib.contextmanager
def transaction(begin: str) -> Iterator[Any]:
    """Run the block in a transaction; PostgreSQL receives several statements at once."""
    connection = local.connection
    if EMBEDDED:
        with connection:
            connection.execute(begin)
            yield connection
    else:
        with connection.pipeline(), connection.transaction():
            yield connection


@cache
def listed(before: str, count: int, after: str) -> str:
    """Return a statement for a list of `count` values."""
    mark = "?" if EMBEDDED else "%s"
    return f"{before} ({', '.join([mark] * count)}) {after}"


def standing(connection: Any, session_id: UUID, user_id: int) -> Any:  # noqa: ANN401 - A connection and a cursor of either driver.
    values = {"session_id": session_id, "user_id": user_id, "now": datetime.now(UTC)}
    return connection.execute(STANDING, values)


def look_up(session_id: UUID, user_id: int) -> Actor | None:
    row = standing(local.connection, session_id, user_id).fetchone()
    return None if row is None else Actor(user_id, session_id, row[0])


admit = partial(tuned.admit, look_up)


def read_user(actor: Actor, user_id: int) -> bytes:
    row = None
    if actor.role == "admin" or actor.user_id == user_id:
        row = local.connection.execute(USER, {"user_id": user_id}).fetchone()
    if row is None:
        raise Refused(404, "there is no such account")
    return orjson.dumps(dict(zip(tuned.SHOWN, row, strict=True)))


def read_orders(actor: Actor, limit: int) -> bytes:
    query = ORDERS if actor.role == "admin" else OWN_ORDERS
    with transaction("BEGIN") as connection:
        found = connection.execute(query, {"user_id": actor.user_id, "most": limit + 1})
        orders = list(map(Order._make, found.fetchall()))
        ids = [order.id.replace("-", "") if EMBEDDED else order.id for order in orders[:limit]]
        lines = connection.execute(listed(LINES, len(ids), "ORDER BY order_id, number"), ids)
        return tuned.page_of(orders, map(Line._make, lines.fetchall()), limit)


def create_order(actor: Actor, key: str, body: Mapping[str, Any]) -> bytes:
    """Place an order once for each key, and return its JSON.

    Raises:
        Refused: The key was used for another request, or the order cannot be placed.
    """
    fingerprint = tuned.fingerprint_of(body)
    asked = [line["product_id"] for line in body["lines"]]
    with turn, transaction("BEGIN IMMEDIATE") as connection:
        # PostgreSQL receives all three at once.
        session = standing(connection, actor.session_id, actor.user_id)
        kept = connection.execute(KEPT, {"user_id": actor.user_id, "key": key})
        products = connection.execute(listed(PRODUCTS, len(asked), LOCKED), asked)
        if session.fetchone() is None:
            raise Refused(401, "the session is over")
        answer = tuned.replay(kept.fetchone(), fingerprint)
        if answer is None:
            found = {row[0]: Product._make(row) for row in products.fetchall()}
            order, lines = tuned.new_order(actor.user_id, body, found)
            answer = orjson.dumps(tuned.as_dict(order, lines))
            rows = tuned.rows_of(order, lines, found)
            rows["idempotency_records"] = tuned.record_of(actor, key, fingerprint, order, answer)
            for table, values in rows.items():
                run(connection, INSERT[table], values)
            reserved = [{**line, "now": order.created_at} for line in body["lines"]]
            run(connection, RESERVE, reserved)
    return answer


def run(connection: Any, statement: str, values: Any) -> None:  # noqa: ANN401 - A connection of either driver, one row or several.
    if isinstance(values, list):
        connection.cursor().executemany(statement, values)
    else:
        connection.execute(statement, values)
