"""A database large enough for query plans to matter."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from models.catalogue.product import Product
from models.catalogue.product_search import ProductTerm
from models.identity.user import User
from models.orders.order import Order
from models.storage.database import Database
from models.storage.identifiers import first_id_from
from tests.databases import make_database_url
from tests.factories import STATUSES

ROWS = 4000
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

_USERS = 200
_HOUR = timedelta(hours=1)


@contextmanager
def stocked_database(kind: str, folder: Path) -> Iterator[Database]:
    """Make a database with thousands of orders, few of which go on, and as many products."""
    with make_database_url(kind, folder) as url:
        database = Database(url)
        database.transact(_fill, write=True)
        if kind == "postgresql":
            # Otherwise its planner goes by guesses until it has looked by itself.
            database.transact(lambda session: session.execute(text("ANALYZE")), write=True)
        yield database
        database.dispose()


def identifier(number: int) -> UUID:
    """Give the identifier of an order; one was placed every hour."""
    return UUID(int=first_id_from(FIRST_DAY + number * _HOUR).int + 1)


def _fill(session: Session) -> None:
    names = [f"person{number}@example.com" for number in range(_USERS)]
    session.add_all(User.draft(name="Alice", email=name, password_hash=None) for name in names)
    session.flush()
    now = {"created_at": FIRST_DAY, "updated_at": FIRST_DAY, "version": 1, "labels": {}}
    orders = [
        {
            "id": identifier(number),
            "user_id": 1 + number % _USERS,
            "status": dict(enumerate(STATUSES)).get(number * 7 % 400, "delivered"),
            "currency": "EUR",
            "total_amount": number * 7919 % 997,
            "paid_amount": number * 7919 % 997,
            "refunded_amount": 0,
            **now,
        }
        for number in range(ROWS)
    ]
    products = [
        {
            "sku": f"SKU-{number}",
            "name": f"Shirt {number}",
            "name_key": f"shirt {number}",
            "description": "",
            "price_amount": number * 7919 % 997,
            "currency": ("EUR", "USD")[number % 3 == 0],
            "active": number % 3 != 1,
            "on_hand": number % 2,
            "reserved": 0,
            **now,
        }
        for number in range(ROWS)
    ]
    session.execute(insert(Order), orders)
    session.execute(insert(Product), products)
    terms = [
        {"product_id": number, "term": term}
        for number in range(1, ROWS + 1)
        for term in ("shirt", f"{number - 1}")
    ]
    session.execute(insert(ProductTerm), terms)
