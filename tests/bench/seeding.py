"""The shop that all are compared on: Concord's migrations make the tables, these rows fill them.

Half of the accounts are read and the other half buy, so that the pages that are read stay as they
are while orders are placed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from api.credentials.access_tokens import Tokens
from api.credentials.signing import KeyRing
from models.access.session import NewSession
from models.catalogue.product import Product
from models.identity.permission import SCOPES_OF_ROLE
from models.identity.token import Token
from models.identity.user import User
from models.orders.order import Order
from models.orders.order_line import OrderLine
from models.storage.base import Base
from models.storage.database import Database
from models.storage.migrating import migrate

Row: TypeAlias = dict[str, Any]

READERS = range(1, 257)
"""Accounts that are read: about as few as may ask so often by the contract's limits."""
BUYERS = range(257, 513)
GUEST = BUYERS.stop
"""An account that nobody reads and that buys nothing: its session is ended, and holds again."""
_MANY = 10_240
"""A little more than the tokens that Concord and the tuned peers keep in memory."""
RARE_READERS = range(GUEST + 1, GUEST + 1 + _MANY)
RARE_BUYERS = range(RARE_READERS.stop, RARE_READERS.stop + _MANY)
"""Accounts that take turns, so that each is forgotten before its next request."""
_ACCOUNTS = range(1, RARE_BUYERS.stop)
PRODUCTS = range(1, 3 * len(BUYERS) + 1)
"""Three for each buyer, so that nobody waits for another's stock."""
ORDERS_EACH = 30
ISSUER = "https://bench.concord.example"

_PAST = datetime(2026, 1, 1, tzinfo=UTC)
_THINGS = ("lamp", "kettle", "blanket", "teapot", "notebook", "bicycle", "Sessel", "北山 scarf")
_STATUSES = ("delivered", "paid", "shipped", "pending", "cancelled")


@dataclass(frozen=True)
class Shop:
    """A filled database and the key that its tokens are signed with."""

    url: str
    key_file: Path

    @cached_property
    def tokens(self) -> Mapping[int, str]:
        """A token for the session of each account, good for an hour."""
        tokens = Tokens(KeyRing.load(self.key_file, create=True), ISSUER)
        database = Database(self.url)
        try:
            sessions = database.transact(
                lambda session: session.scalars(select(Token)).all(), write=False
            )
        finally:
            database.dispose()
        # Nobody here refreshes one.
        return {each.user_id: tokens.issue(NewSession(each, "")).access_token for each in sessions}


def order_body(buyer: int) -> dict[str, Any]:
    """What a buyer orders: three products that nobody else orders."""
    first = 1 + 3 * (buyer - BUYERS.start)
    return {
        "lines": [
            {"product_id": first + line, "quantity": 1 + (buyer + line) % 3} for line in range(3)
        ],
        "note": "Please ring twice.",
        "shipping_address": {
            "name": f"Customer {buyer}",
            "line1": "12 St James's Square",
            "city": "London",
            "postal_code": "SW1Y 4JH",
            "country": "GB",
        },
        "metadata": {"season": "spring", "campaign": f"c{buyer % 7}"},
    }


REJECTED_BODY: Mapping[str, Any] = {
    "lines": [{"product_id": "seven", "quantity": 0}, {"product_id": 7}],
    "note": 17,
    "shipping_address": {"name": "Ada Lovelace", "city": "London", "country": "gb"},
    "colour": "red",
}
"""A body with a handful of faults, each of another kind."""


def fill(url: str) -> None:
    """Fill an empty database; the rows are the same every time."""
    database = Database(url, statement_timeout=60.0)
    try:
        migrate(database)
        database.transact(_fill, write=True)
    finally:
        database.dispose()


def _fill(session: Session) -> None:
    random = Random(1)  # noqa: S311 - the same rows every time.
    orders: list[Row] = []
    lines: list[Row] = []
    for user in READERS:
        for number in range(ORDERS_EACH):
            _add_order(random, user, number, (orders, lines))
    rows: Mapping[type[Base], Sequence[Row]] = {
        User: list(_users()),
        Product: list(_products()),
        Order: orders,
        OrderLine: lines,
        Token: list(_sessions(random)),
    }
    for model, values in rows.items():
        # Into the table, not by way of the model, which would set its own version.
        session.execute(insert(Base.metadata.tables[model.__tablename__]), values)


def _users() -> Iterator[Row]:
    for number in _ACCOUNTS:
        email = f"customer{number}@example.com"
        yield {
            "name": f"Customer {number}",
            "email": email,
            "email_key": email,
            "role": "user",
            "active": True,
            "email_verified": number % 2 == 0,
            "password_hash": None,
            "password_change_required": False,
            "token_version": 1,
            "version": 1,
            "created_at": _PAST + timedelta(seconds=number, microseconds=number % 3),
            "updated_at": _PAST + timedelta(seconds=2 * number),
        }


def _sessions(random: Random) -> Iterator[Row]:
    for user in _ACCOUNTS:
        begun = _PAST + timedelta(days=1, seconds=user)
        yield {
            "id": _id(random, begun),
            "user_id": user,
            "kind": "session",
            "name": None,
            "scopes": list(SCOPES_OF_ROLE["user"]),
            "key_hash": None,
            "token_version": 1,
            "address": "192.0.2.1",
            "user_agent": "wrk",
            "created_at": begun,
            "last_used_at": begun,
            "expires_at": _in_a_month(),
            "ended_at": None,
        }


def _products() -> Iterator[Row]:
    for number in PRODUCTS:
        name = f"{_THINGS[number % len(_THINGS)]} {number}"
        yield {
            "sku": f"SKU-{number}",
            "name": name,
            "name_key": name,
            "description": "Made up.",
            "price_amount": 100 + number * 37 % 10_000,
            "currency": "EUR",
            "on_hand": 1_000_000_000,
            "reserved": 0,
            "active": True,
            "metadata": {},
            "version": 1,
            "created_at": _PAST,
            "updated_at": _PAST,
        }


def _add_order(
    random: Random,
    user: int,
    number: int,
    into: tuple[list[Row], list[Row]],
) -> None:
    orders, lines = into
    created = _PAST + timedelta(hours=number, seconds=user)
    order_id = _id(random, created)
    status = _STATUSES[number % len(_STATUSES)]
    total = 0
    for line in range(1 + number % 3):
        product = 1 + (user * 31 + number * 7 + line) % len(PRODUCTS)
        amount, quantity = 100 + product * 37 % 10_000, 1 + (number + line) % 4
        total += amount * quantity
        lines.append(
            {
                "order_id": order_id,
                "number": line,
                "product_id": product,
                "sku": f"SKU-{product}",
                "name": f"{_THINGS[product % len(_THINGS)]} {product}",
                "unit_amount": amount,
                "currency": "EUR",
                "quantity": quantity,
                "shipped": quantity if status in {"delivered", "shipped"} else 0,
                "returned": 0,
            }
        )
    address = {"name": f"Customer {user}", "line1": "4 rue des Lilas", "city": "Lyon"}
    orders.append(
        {
            "id": order_id,
            "user_id": user,
            "status": status,
            "currency": "EUR",
            "total_amount": total,
            "paid_amount": 0 if status in {"pending", "cancelled"} else total,
            "refunded_amount": 0,
            "note": "Please ring twice." if number % 5 == 0 else None,
            "shipping_address": {**address, "country": "FR"} if number % 4 else None,
            "metadata": {"season": "spring"} if number % 2 else {},
            "version": 1,
            "expires_at": _in_a_month() if status == "pending" else None,
            "created_at": created,
            "updated_at": created + timedelta(minutes=5, microseconds=number),
        }
    )


def _in_a_month() -> datetime:
    """Far enough away for nothing to expire while the bench runs."""
    return datetime.now(UTC) + timedelta(days=30)


def _id(random: Random, created: datetime) -> UUID:
    """A UUIDv7 of a moment in the past."""
    milliseconds = int(created.timestamp() * 1000)
    chance = random.getrandbits(74)
    return UUID(
        int=milliseconds << 80 | 7 << 76 | (chance >> 62) << 64 | 2 << 62 | chance & (1 << 62) - 1
    )
