"""A shop behind real processes: accounts and products made in its database, and requests to it."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.credentials.signing import KeyRing
from models.catalogue.product import Price, Product
from models.identity.user import User
from models.orders.order import Order
from models.storage.database import Database
from tests.factories import make_access_token

T = TypeVar("T")
PRICE = 1000
ONE_USE = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""A connection for each request: httpx has threads close each other's when they are idle."""
CURRENCY = "EUR"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Seller:
    """An administrator, as far as rules need to know."""

    user_id: int
    is_admin: bool = True
    token_version: int = 1


@dataclass
class Shop:
    """The database of a service, and how to ask the service for something."""

    database: Database
    keys: KeyRing
    issuer: str
    client: httpx.Client = field(default_factory=partial(httpx.Client, timeout=60, limits=ONE_USE))

    def person(self, *, admin: bool = False) -> tuple[int, dict[str, str]]:
        """Make an account: its id, and the headers that its requests carry."""
        create = User.create_administrator if admin else User.register
        email = f"{uuid.uuid4().hex}@concord.example"

        def work(session: Session) -> User:
            return create(session, name="Ada", email=email, password_hash="none")

        user = self.database.transact(work, write=True)
        token = make_access_token(self.database, user, self.keys, self.issuer)
        return user.id, {"Authorization": f"Bearer {token}"}

    def product(self, stock: int, by: int) -> int:
        """Make a product of which there is so much."""

        def work(session: Session) -> int:
            price: Price = {"amount": PRICE, "currency": CURRENCY}
            sku = f"SKU-{uuid.uuid4().hex[:12]}"
            product = Product.create(session, {"sku": sku, "name": "Mug", "price": price})
            product.adjust(session, stock, reason="delivery", by=Seller(by))
            return product.id

        return self.database.transact(work, write=True)

    def statuses(self) -> dict[UUID, str]:
        """Read the state of every order as it is stored."""
        query = select(Order.id, Order.status)
        rows = self.database.transact(lambda session: session.execute(query).all(), write=False)
        return {row.id: row.status for row in rows}

    def post(
        self, url: str, headers: dict[str, str], body: object = None, *, key: str | None = None
    ) -> httpx.Response:
        """Post with an idempotency key, by default one of its own."""
        return self.client.post(
            url, json=body, headers={**headers, "Idempotency-Key": key or uuid.uuid4().hex}
        )


def order_of(product_id: int, quantity: int = 1) -> dict[str, object]:
    """The body of an order of one product."""
    return {"lines": [{"product_id": product_id, "quantity": quantity}]}


def payment_of(amount: int) -> dict[str, object]:
    """The body of a payment, or of a refund when the rest is left out."""
    money = {"amount": amount, "currency": CURRENCY}
    return {"amount": money, "method": "card", "reference": f"payment-{next(_numbers)}"}


def at_once(works: Sequence[Callable[[], T]], threads: int = 64) -> list[T]:
    """Run all, as many at a time as there are threads, and give what they return."""
    with ThreadPoolExecutor(min(threads, len(works))) as pool:
        return list(pool.map(lambda work: work(), works))


@contextmanager
def repeating(works: Sequence[Callable[[], None]], pause: float = 0.02) -> Iterator[None]:
    """Call each of the works repeatedly until the block ends, with a pause in seconds between."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while not stop.wait(pause):
                work()
        except BaseException as error:  # noqa: BLE001 - it is raised again below.
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=(each,)) for each in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


@contextmanager
def open_shop(database_url: str, signing_key: Path, issuer: str) -> Iterator[Shop]:
    """Give access to a shop until the block ends."""
    database = Database(database_url)
    shop = Shop(database, KeyRing.load(signing_key, create=False), issuer)
    try:
        yield shop
    finally:
        shop.client.close()
        database.dispose()
