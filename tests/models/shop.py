"""Products, orders in every state, and how to look at them, for the tests of the models."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from typing import TypedDict, Unpack

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from models.database import Database
from models.order import Order, OrderDetails
from models.order_event import OrderEvent
from models.order_list import OrderFilter, OrderSort, list_orders
from models.order_view import OrderView
from models.page import Page
from models.product import Product, ProductChanges
from models.product_list import ProductFilter, ProductSort, list_products
from models.stock import StockEntry
from tests.models.dealing import (
    HALF_AN_HOUR,
    LIFECYCLE,
    Lines,
    cancel,
    deliver,
    expire,
    make_admin,
    pay,
    place,
    refund,
    ship,
)
from tests.models.people import Person, make_user

STATUSES = tuple(LIFECYCLE.actions)
ALL_PRODUCTS = ProductFilter()
ALL_ORDERS = OrderFilter()

_numbers = count(1)


class Description(TypedDict, total=False):
    """What is said of a product besides its price."""

    sku: str
    name: str
    description: str
    active: bool
    metadata: dict[str, str]


def make_buyer(database: Database) -> Person:
    """Store another customer."""
    return Person(make_user(database).id)


def make_product(
    database: Database,
    *,
    stock: int = 10,
    price: int = 1500,
    currency: str = "EUR",
    **description: Unpack[Description],
) -> Product:
    """Store a product, and count its stock; by default every product has another SKU."""
    values: ProductChanges = {
        "sku": f"SKU-{next(_numbers)}",
        "name": "T-shirt",
        "price": {"amount": price, "currency": currency},
        **description,
    }
    admin = make_admin(database)

    def work(session: Session) -> Product:
        product = Product.create(session, values)
        if stock:
            product.adjust(session, stock, reason="the first count", by=admin)
        return product

    return database.transact(work, write=True)


def make_order(
    database: Database,
    *,
    status: str = "pending",
    buyer: Person | None = None,
    lines: Lines | None = None,
    paid: int = 0,
    reservation: timedelta = HALF_AN_HOUR,
    **details: Unpack[OrderDetails],
) -> Order:
    """Place an order and bring it into a state, by the actions that lead there.

    By default somebody new orders three of a new product. `paid` is what is paid of it first; what
    else has to be paid on the way into the state is paid then.
    """
    buyer = buyer or make_buyer(database)
    lines = lines or [(make_product(database), 3)]
    order = place(database, buyer, lines, reservation=reservation, **details)
    if paid:
        order = pay(database, order, paid)
    if status in {"pending", "cancelled", "expired"}:
        leave = {"cancelled": cancel, "expired": expire}.get(status)
        return leave(database, order) if leave else order
    if order.status == "pending":
        order = pay(database, order)
    if status == "partially_shipped":
        return ship(database, order, [(lines[0][0], 1)])
    if status in {"shipped", "delivered"}:
        order = ship(database, order)
    if status == "delivered":
        return deliver(database, order)
    return refund(database, order) if status == "refunded" else order


def read_product(database: Database, product: Product) -> Product:
    """Read a product as it is now, also one that is archived."""
    return database.transact(lambda session: session.get_one(Product, product.id), write=False)


def read_order(database: Database, order: Order) -> Order:
    """Read an order as it is now, with its lines."""
    options = [selectinload(Order.lines)]
    return database.transact(lambda s: s.get_one(Order, order.id, options=options), write=False)


def read_events(database: Database, order: Order) -> Sequence[OrderEvent]:
    """Read all that happened to an order."""
    query = select(OrderEvent).where(OrderEvent.order_id == order.id).order_by(OrderEvent.number)
    return database.transact(lambda session: session.scalars(query).all(), write=False)


def read_entries(database: Database, product: Product) -> Sequence[StockEntry]:
    """Read the ledger of a product."""
    page = database.transact(
        lambda session: StockEntry.page(session, product.id, after=None, limit=1000), write=False
    )
    return page.items


def read_products(
    database: Database,
    *,
    wanted: ProductFilter = ALL_PRODUCTS,
    by: Person | None = None,
    sort: ProductSort = "created_at",
    after: list[int | str] | None = None,
    limit: int = 100,
) -> Page[Product]:
    """Read a page of the list of products."""
    return database.transact(
        lambda s: list_products(s, wanted, by=by, sort=sort, after=after, limit=limit), write=False
    )


def read_orders(
    database: Database,
    *,
    by: Person,
    wanted: OrderFilter = ALL_ORDERS,
    sort: OrderSort = "-created_at",
    after: list[int | str] | None = None,
    limit: int = 100,
) -> Page[OrderView]:
    """Read a page of the list of orders."""
    return database.read(
        lambda c: list_orders(c, wanted, by=by, sort=sort, after=after, limit=limit), snapshot=True
    )
