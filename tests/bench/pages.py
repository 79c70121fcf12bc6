"""The kinds of pages of orders and products that `depth.py` compares, each first the first page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from models.catalogue.product import Product
from models.catalogue.product_list import ProductFilter, ProductSort, find_products
from models.orders.order import Order
from models.orders.order_list import OrderFilter, OrderSort, find_orders
from models.storage.database import Database
from models.storage.page import Keys, Page
from models.storage.reader import Reader

LIMIT = 25
DEEP = 250_000
"""Where the ten-thousandth page begins."""
DEEP_PRODUCT = 90_000
HEAVY, USUAL = 1, 10_000
"""A customer with very many orders, and one with some dozens."""
ALL_ORDERS, ALL_PRODUCTS = OrderFilter(), ProductFilter()


@dataclass(frozen=True)
class Anyone:
    """Whoever asks."""

    user_id: int
    is_admin: bool
    token_version: int = 1


ADMIN = Anyone(0, is_admin=True)


@dataclass(frozen=True)
class Case:
    """One kind of page, by what it is called in the table."""

    name: str
    read: Callable[[Reader], Page[Any]]


def orders(
    name: str,
    wanted: OrderFilter = ALL_ORDERS,
    *,
    sort: OrderSort = "-created_at",
    after: list[int | str] | None = None,
    by: Anyone = ADMIN,
) -> Case:
    """A page of orders, as an administrator gets it unless somebody else is named."""

    def read(reader: Reader) -> Page[Any]:
        return find_orders(reader, wanted, by=by, sort=sort, after=after, limit=LIMIT)

    return Case(name, read)


def products(
    name: str,
    wanted: ProductFilter = ALL_PRODUCTS,
    *,
    sort: ProductSort = "created_at",
    after: list[int | str] | None = None,
) -> Case:
    """A page of products, as anybody gets it."""

    def read(reader: Reader) -> Page[Product]:
        return find_products(reader, wanted, by=None, sort=sort, after=after, limit=LIMIT)

    return Case(name, read)


def position(database: Database, keys: Keys, row: int, *, descending: bool) -> list[int | str]:
    """The keys of a row of the list, from which a page can go on."""
    order = [key.desc() if descending else key.asc() for key in keys]
    query = select(*keys).order_by(*order).offset(row - 1).limit(1)
    values = database.read(lambda reader: reader.execute(query).one())
    return [value if isinstance(value, int) else str(value) for value in values]


def since_then(days: int) -> OrderFilter:
    """The orders of some days that are long past."""
    then = datetime.now(UTC) - timedelta(days=700)
    return OrderFilter(created_from=then, created_to=then + timedelta(days=days))


def order_cases(database: Database, count: int) -> Iterator[Case]:
    """The pages of orders."""
    row = min(DEEP, count // 2)
    deep = position(database, (Order.id,), row, descending=True)
    heavy, usual = OrderFilter(user_id=HEAVY), OrderFilter(user_id=USUAL)
    delivered, pending = OrderFilter(statuses=["delivered"]), OrderFilter(statuses=["pending"])
    sent = OrderFilter(statuses=["paid", "partially_shipped", "shipped"])
    ended = OrderFilter(statuses=["delivered", "refunded", "cancelled"])
    week, year = since_then(7), since_then(365)
    yield orders("first page")
    yield orders(f"page after row {row}", after=deep)
    yield orders("oldest first", sort="created_at")
    yield orders("status, frequent", delivered)
    yield orders("status, frequent, deep", delivered, after=deep)
    yield orders("status, rare", pending)
    yield orders("status, rare, oldest first", pending, sort="created_at")
    yield orders("3 statuses", sent)
    yield orders("3 statuses, frequent, deep", ended, after=deep)
    yield orders("user, usual", usual)
    yield orders("user, heavy", heavy)
    yield orders("user, heavy, deep", heavy, after=deep)
    yield orders("own, usual", by=Anyone(USUAL, is_admin=False))
    yield orders("user, heavy + status", replace(delivered, user_id=HEAVY))
    yield orders("user, heavy + rare status", replace(pending, user_id=HEAVY))
    yield orders("user, heavy + 3 statuses", replace(ended, user_id=HEAVY))
    yield orders("week", week)
    yield orders("week + status", replace(week, statuses=["cancelled"]))
    yield orders("week + status, none", replace(week, statuses=["pending"]))
    yield orders("year + status, none", replace(year, statuses=["pending"]))
    yield orders("week + user, usual", replace(week, user_id=USUAL))
    yield orders("week + user, heavy + status", replace(week, user_id=HEAVY, statuses=["refunded"]))


def total_cases(database: Database, count: int) -> Iterator[Case]:
    """The pages of orders that are in the order of their totals, or narrowed down by these."""
    row = min(DEEP, count // 2)
    deep = position(database, (Order.total_amount, Order.id), row, descending=True)
    heavy, dear = OrderFilter(user_id=HEAVY), OrderFilter(total_min=200_000)
    delivered, pending = OrderFilter(statuses=["delivered"]), OrderFilter(statuses=["pending"])
    ended = OrderFilter(statuses=["delivered", "refunded", "cancelled"])
    middle = OrderFilter(total_min=50_000, total_max=60_000)
    week, year = since_then(7), since_then(365)
    yield orders("-total", sort="-total")
    yield orders(f"-total after row {row}", sort="-total", after=deep)
    yield orders("total + status, frequent", delivered, sort="total")
    yield orders("-total + 3 statuses", ended, sort="-total")
    yield orders("-total + user, heavy", heavy, sort="-total")
    yield orders("-total + user + status", replace(delivered, user_id=HEAVY), sort="-total")
    yield orders("-total + user + rare status", replace(pending, user_id=HEAVY), sort="-total")
    yield orders("-total + week", week, sort="-total")
    yield orders("-total + year", year, sort="-total")
    yield orders("total range by total", middle, sort="total")
    yield orders("total range, wide", OrderFilter(total_min=1_000, total_max=20_000))
    yield orders("total range, 1 in 1,000", OrderFilter(total_min=30_000, total_max=30_100))
    yield orders("total range, few", OrderFilter(total_min=500_000))
    yield orders("total range, none", OrderFilter(total_min=10**12))
    yield orders("total range + status", replace(dear, statuses=["cancelled"]))
    yield orders("total range + user", replace(dear, user_id=HEAVY))
    yield orders(
        "total range + user + status", replace(dear, user_id=HEAVY, statuses=["delivered"])
    )


def product_cases(database: Database, count: int) -> Iterator[Case]:
    """The pages of products."""
    row = min(DEEP_PRODUCT, count // 2)
    deep = position(database, (Product.id,), row, descending=False)
    deep_name = position(database, (Product.name_key, Product.id), row, descending=False)
    middle = ProductFilter(price_min=2_000, price_max=3_000)
    yield products("first page")
    yield products(f"page after row {row}", after=deep)
    yield products("newest first", sort="-created_at")
    yield products("name", sort="name")
    yield products(f"name after row {row}", sort="name", after=deep_name)
    yield products("q, frequent", ProductFilter(question="bicycle"))
    yield products("q, frequent, deep", ProductFilter(question="bicycle"), after=deep)
    yield products("q, frequent, by price", ProductFilter(question="bicycle"), sort="price")
    yield products("q, rare", ProductFilter(question="bicycle 321"))
    yield products("q, two frequent words", ProductFilter(question="oak bicycle"))
    yield products("q, one letter", ProductFilter(question="b"))
    yield products("q, a SKU", ProductFilter(question="SKU-77777"))
    yield products("q, nothing", ProductFilter(question="zither"))
    yield products("price range", middle)
    yield products("price range by price", middle, sort="price")
    yield products("price range, few", ProductFilter(price_min=80_000))
    yield products("price range + currency", replace(middle, currency="EUR"))
    yield products("currency", ProductFilter(currency="KWD"))
    yield products("currency by -price", ProductFilter(currency="KWD"), sort="-price")
    yield products("in stock", ProductFilter(in_stock=True))
    yield products("out of stock", ProductFilter(in_stock=False))
    yield products("out of stock by name", ProductFilter(in_stock=False), sort="name")
