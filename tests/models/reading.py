"""Rows and lists as a test reads them, each in a transaction of its own."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from models.catalogue.product import Product
from models.catalogue.product_list import ProductFilter, ProductSort, find_products
from models.catalogue.stock_entry import StockEntry
from models.identity.user import Role, User
from models.identity.user_list import find_users
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_line import LineQuantity, OrderLine
from models.orders.order_list import OrderFilter, OrderSort, find_orders
from models.orders.order_view import OrderView
from models.storage.database import Database
from models.storage.page import Page
from tests.factories import ROOT, Person

ALL_PRODUCTS = ProductFilter()
ALL_ORDERS = OrderFilter()


def read_user(database: Database, user_id: int) -> User:
    """Read an account as it is now."""
    return database.transact(lambda session: User.visible_to(session, ROOT, user_id), write=False)


def read_page(
    database: Database,
    *,
    active: bool | None = None,
    role: Role | None = None,
    after: Sequence[object] | None = None,
    limit: int = 100,
) -> Page[User]:
    """Read a page of the list."""
    return database.transact(
        lambda session: find_users(session, active=active, role=role, after=after, limit=limit),
        write=False,
    )


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
        lambda s: find_products(s, wanted, by=by, sort=sort, after=after, limit=limit), write=False
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
        lambda reader: find_orders(reader, wanted, by=by, sort=sort, after=after, limit=limit)
    )


def read_unit(database: Database, order_id: UUID) -> LineQuantity:
    """Read the product of an order's first line, as one unit of it."""
    line = select(OrderLine.product_id).where(OrderLine.order_id == order_id)
    first = line.order_by(OrderLine.number).limit(1)
    product_id = database.transact(lambda session: session.scalars(first).one(), write=False)
    return LineQuantity(product_id=product_id, quantity=1)


def read_payment(database: Database, order_id: UUID) -> dict[str, str]:
    """Read the method and reference of an order's first payment; nothing if it has none."""
    query = select(OrderEvent.method, OrderEvent.reference).filter_by(
        order_id=order_id, action="pay"
    )
    row = database.read(lambda reader: reader.execute(query).first())
    return row._asdict() if row else {}
