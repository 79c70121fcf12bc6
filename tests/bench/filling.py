"""Fills a database with customers, a catalogue and orders in bulk, for `depth.py`.

Rows go in as text that SQLite's `executemany` and PostgreSQL's COPY both take. They keep every
rule that the tables check, but there is no ledger and no timeline: no list reads these.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple, TypeAlias

import psycopg
from psycopg import sql
from sqlalchemy import URL, func, make_url, select
from sqlalchemy.orm import Session
from tqdm import tqdm

from models.catalogue.product import Product
from models.orders.order import Order
from models.storage.database import Database
from models.storage.migrating import migrate
from models.text import collation_key, words

Row: TypeAlias = tuple[object, ...]
Write: TypeAlias = Callable[[str, Iterable[Row]], None]

_COLUMNS = {
    "users": "id name email email_key role active email_verified password_hash token_version"
    " version created_at updated_at erased_at",
    "products": "id sku name name_key description price_amount currency on_hand reserved active"
    " metadata version created_at updated_at archived_at",
    "product_terms": "product_id term",
    "orders": "id user_id status currency total_amount paid_amount refunded_amount note"
    " shipping_address metadata version expires_at created_at updated_at",
    "order_lines": "order_id number product_id sku name unit_amount currency quantity shipped"
    " returned",
}
_ADDRESS = '{"name": "Ada Lovelace", "line1": "12 St James\'s Square", "city": "London"}'
_BATCH = 20_000
_CURRENCIES = ("EUR", "USD", "GBP", "JPY", "KWD")
_CUSTOMERS = 20_000
_SPAN = timedelta(days=3 * 365)
_STATEMENT_SECONDS = 1200

# What becomes of orders, with how often: of nearly all of them, and of the newest ones.
_SETTLED = {"delivered": 850, "cancelled": 60, "expired": 50, "refunded": 35, "paid": 5}
_FRESH = {"pending": 8, "paid": 40, "partially_shipped": 12, "shipped": 30, "delivered": 10}
_NEWEST = {"pending": 60, "paid": 30, "cancelled": 10}
_UNPAID = frozenset({"pending", "cancelled", "expired"})
_SHIPPED = frozenset({"shipped", "delivered"})

# The first words are in many names, the last in few.
_THINGS = "bicycle lamp kettle blanket chair notebook teapot radio basket mirror clock theremin"
_MATERIALS = "oak steel wool glass linen copper leather bamboo cork marble felt amber"


class _Item(NamedTuple):
    id: int
    sku: str
    name: str
    amount: int
    currency: str


def fill(url: str, *, orders: int, products: int) -> None:
    """Fill a database, unless it has been filled so already.

    Raises:
        SystemExit: it has other rows in it.
    """
    database = Database(url, statement_timeout=_STATEMENT_SECONDS)
    try:
        migrate(database)
        found = database.transact(
            lambda session: tuple(
                session.scalar(select(func.count()).select_from(table))
                for table in (Order, Product)
            ),
            write=False,
        )
    finally:
        database.dispose()
    if found == (orders, products):
        return
    if found != (0, 0):
        raise SystemExit(f"the database holds {found[0]} orders and {found[1]} products: remove it")
    random = Random(1)  # noqa: S311 - the same rows every time.
    now = datetime.now(UTC)
    with _writer(make_url(url)) as write:
        write("users", (_user(number, now) for number in range(1, _CUSTOMERS + 1)))
        items = [_item(random, number) for number in range(1, products + 1)]
        write("products", (_product(random, item, now) for item in items))
        write("product_terms", (term for item in items for term in _terms(item)))
        _write_orders(write, random, items, orders, now)


def _counts(session: Session) -> tuple[int | None, int | None]:
    return (
        session.scalar(select(func.count()).select_from(Order)),
        session.scalar(select(func.count()).select_from(Product)),
    )


@contextmanager
def _writer(url: URL) -> Iterator[Write]:
    """Give what writes rows into a table, all of them in one transaction."""
    if url.get_backend_name() == "sqlite":
        # Faster than through `Database`: what a crash leaves behind can be thrown away.
        with closing(sqlite3.connect(str(url.database))) as file, file:
            for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
                file.execute(f"PRAGMA {setting}")

            def insert(table: str, rows: Iterable[Row]) -> None:
                columns = _COLUMNS[table].split()
                marks = ", ".join("?" * len(columns))
                file.executemany(
                    f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - Our own names.
                    rows,
                )

            yield insert
        return
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    options = f"-c timezone=UTC -c statement_timeout={_STATEMENT_SECONDS}s"
    with psycopg.connect(server, connect_timeout=5, options=options) as connection:

        def copy(table: str, rows: Iterable[Row]) -> None:
            columns = [sql.Identifier(column) for column in _COLUMNS[table].split()]
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table), sql.SQL(", ").join(columns)
            )
            with connection.cursor() as cursor, cursor.copy(statement) as into:
                for row in rows:
                    into.write_row(row)

        yield copy
    with psycopg.connect(server, connect_timeout=5, autocommit=True) as connection:
        # As the server does by itself some time after so many rows came in.
        connection.execute("VACUUM ANALYZE")


def _user(number: int, now: datetime) -> Row:
    email = f"customer{number}@example.com"
    then = _time(now - _SPAN)
    return (
        number, f"Customer {number}", email, email, "user", 1, 1, None, 1, 1, then, then, None,
    )  # fmt: skip


def _item(random: Random, number: int) -> _Item:
    things, materials = _THINGS.split(), _MATERIALS.split()
    thing = things[int(len(things) * random.random() ** 2)]
    material = materials[int(len(materials) * random.random() ** 2)]
    name = f"{material} {thing} {random.randrange(1000)}"
    amount = int(random.lognormvariate(8, 1)) + 1
    return _Item(number, f"SKU-{number}", name, amount, _CURRENCIES[number % len(_CURRENCIES)])


def _product(random: Random, item: _Item, now: datetime) -> Row:
    on_hand = random.randrange(500) if random.random() < 0.95 else 0
    then = _time(now - _SPAN)
    return (
        item.id, item.sku, item.name, collation_key(item.name), "Made up.", item.amount,
        item.currency, on_hand, on_hand // 3, int(random.random() < 0.97), "{}", 1, then, then,
        None,
    )  # fmt: skip


def _terms(item: _Item) -> Iterator[Row]:
    for word in words(f"{item.name} {item.sku}"):
        yield (item.id, word)


def _write_orders(
    write: Write, random: Random, items: Sequence[_Item], count: int, now: datetime
) -> None:
    by_currency = [
        [item for item in items if item.currency == currency] for currency in _CURRENCIES
    ]
    with tqdm(total=count, unit=" orders", disable=None) as bar:
        for first in range(0, count, _BATCH):
            orders: list[Row] = []
            lines: list[Row] = []
            for number in range(first, min(first + _BATCH, count)):
                offered = random.choice(by_currency)
                chosen = random.sample(offered, min(len(offered), random.choice((1, 1, 2, 2, 3))))
                created = now - _SPAN + _SPAN * ((number + random.random()) / count)
                _add_order(random, number / count, created, chosen, (orders, lines))
            write("orders", orders)
            write("order_lines", lines)
            bar.update(len(orders))


def _add_order(
    random: Random,
    age: float,
    created: datetime,
    chosen: Sequence[_Item],
    into: tuple[list[Row], list[Row]],
) -> None:
    orders, lines = into
    fates = _SETTLED if age < 0.99 else _FRESH if age < 0.999 else _NEWEST
    (status,) = random.choices(list(fates), list(fates.values()))
    order_id = _id(random, created)
    total = 0
    for number, item in enumerate(chosen):
        quantity = random.choice((1, 1, 1, 2, 3, 10))
        total += quantity * item.amount
        shipped = quantity if status in _SHIPPED else 0
        lines.append(
            (
                order_id, number, item.id, item.sku, item.name, item.amount, item.currency,
                quantity, 1 if status == "partially_shipped" and not number else shipped, 0,
            )
        )  # fmt: skip
    then = _time(created)
    # A few customers have very many orders, most have some dozens.
    customer = 1 + int(_CUSTOMERS * random.random() ** 3)
    orders.append(
        (
            order_id, customer, status, chosen[0].currency, total,
            0 if status in _UNPAID else total, total if status == "refunded" else 0,
            None, _ADDRESS, "{}", 1,
            _time(created + timedelta(days=30)) if status == "pending" else None, then, then,
        )
    )  # fmt: skip


def _id(random: Random, created: datetime) -> str:
    """A UUIDv7 of a moment that may be past."""
    milliseconds = int(created.timestamp() * 1000)
    chance = random.getrandbits(74)
    number = milliseconds << 80 | 7 << 76 | (chance >> 62) << 64 | 2 << 62 | chance & (1 << 62) - 1
    return f"{number:032x}"


def _time(moment: datetime) -> str:
    """A time as SQLAlchemy writes it into SQLite; PostgreSQL reads it as UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
