"""Actions on accounts, products and orders, each in a transaction of its own."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import TypedDict, Unpack
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.accounts.account import erase_account
from models.catalogue.product import Price, Product, ProductChanges
from models.catalogue.stock_entry import StockEntry
from models.identity.audit_event import RequestOrigin
from models.identity.user import Role, User
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_expiry import expire_orders
from models.orders.order_placing import OrderDetails
from models.set_aside import SetAside
from models.storage.database import Database
from tests.factories import (
    HALF_AN_HOUR,
    LIFECYCLE,
    ROOT,
    Lines,
    Person,
    make_admin,
    quantities,
)

_payments = count(1)


class Change(TypedDict, total=False):
    """What can be changed of an account."""

    name: str
    email: str
    role: Role
    active: bool
    password_hash: str
    password_change_required: bool


def change_user(database: Database, user_id: int, **change: Unpack[Change]) -> User:
    """Change an account in a transaction of its own."""

    def work(session: Session) -> User:
        user = User.visible_to(session, ROOT, user_id)
        user.change(session, **change)
        return user

    return database.transact(work, write=True)


def erase_user(database: Database, user_id: int) -> None:
    """Erase an account in a transaction of its own."""
    database.transact(
        lambda session: User.visible_to(session, ROOT, user_id).erase(session), write=True
    )


def erase_customer(database: Database, buyer: Person, *, by: Person | None = None) -> None:
    """Erase the account of a customer with its orders, by default as the administrator."""
    who = by or make_admin(database)

    def work(session: Session) -> None:
        user = User.visible_to(session, ROOT, buyer.user_id)
        erase_account(session, LIFECYCLE, user, by=who, origin=RequestOrigin())

    database.transact(work, write=True)


def change_product(
    database: Database, product: Product, **changes: Unpack[ProductChanges]
) -> Product:
    """Change a product in a transaction of its own."""
    admin = make_admin(database)

    def work(session: Session) -> Product:
        found = Product.lock_visible(session, admin, product.id)
        found.change(session, changes)
        return found

    return database.transact(work, write=True)


def archive_product(database: Database, product: Product) -> None:
    """Archive a product in a transaction of its own."""
    admin = make_admin(database)
    database.transact(lambda s: Product.lock_visible(s, admin, product.id).archive(s), write=True)


def adjust_stock(database: Database, product: Product, quantity: int) -> StockEntry:
    """Adjust the stock of a product in a transaction of its own."""
    admin = make_admin(database)

    def work(session: Session) -> StockEntry:
        found = Product.lock_visible(session, admin, product.id)
        return found.adjust(session, quantity, reason="counted anew", by=admin)

    return database.transact(work, write=True)


def place(
    database: Database,
    buyer: Person,
    lines: Lines,
    *,
    reservation: timedelta = HALF_AN_HOUR,
    **details: Unpack[OrderDetails],
) -> Order:
    """Place an order in a transaction of its own."""

    def work(session: Session) -> Order:
        placed = Order.place(session, quantities(lines), details, reservation=reservation, by=buyer)
        return Order.lock_visible(session, buyer, placed.id)

    return database.transact(work, write=True)


def act(database: Database, order: Order, work: Callable[[Session, Order, Person], None]) -> Order:
    """Do something to an order in a transaction of its own, as the administrator."""
    admin = make_admin(database)

    def transaction(session: Session) -> Order:
        found = Order.lock_visible(session, admin, order.id)
        work(session, found, admin)
        return found

    return database.transact(transaction, write=True)


def update(database: Database, order: Order, **details: Unpack[OrderDetails]) -> Order:
    """Change what the customer says about an order."""
    return act(database, order, lambda s, o, by: o.update(s, LIFECYCLE, details, by=by))


def pay(
    database: Database,
    order: Order,
    amount: int | None = None,
    *,
    currency: str | None = None,
    method: str = "card",
    reference: str | None = None,
) -> Order:
    """Record a payment; without an amount, of all that is due, or of the total if nothing is."""
    if reference is None:
        reference = f"payment-{next(_payments)}"

    def work(session: Session, found: Order, by: Person) -> None:
        due = found.due.amount or found.total_amount
        money = Price(amount=due if amount is None else amount, currency=currency or found.currency)
        found.pay(session, LIFECYCLE, money, method=method, reference=reference, by=by)

    return act(database, order, work)


def bounce(
    database: Database,
    order: Order,
    amount: int | None = None,
    *,
    currency: str | None = None,
    reference: str | None = None,
    reason: str | None = None,
) -> Order:
    """Bounce a payment by card, by default the last one that something is left of."""

    def work(session: Session, found: Order, by: Person) -> None:
        money = None
        if amount is not None:
            money = Price(amount=amount, currency=currency or found.currency)
        found.bounce(
            session,
            LIFECYCLE,
            money,
            method="card",
            reference=reference or _last_payment(session, found),
            reason=reason,
            reservation=HALF_AN_HOUR,
            by=by,
        )

    return act(database, order, work)


def _last_payment(session: Session, order: Order) -> str:
    """Return the reference of the last payment of which something is left."""
    query = select(OrderEvent.reference).where(
        OrderEvent.order_id == order.id, OrderEvent.action == "pay"
    )
    for reference in session.scalars(query.order_by(OrderEvent.number.desc())).all():
        if reference and OrderEvent.payment(session, order.id, method="card", reference=reference):
            return reference
    return "none"


def cancel(database: Database, order: Order) -> Order:
    """Cancel an order."""
    return act(database, order, lambda s, o, by: o.cancel(s, LIFECYCLE, by=by))


def reduce(
    database: Database, order: Order, lines: Lines | None = None, *, reason: str | None = None
) -> Order:
    """Cancel units that were not shipped, all of them if no lines are given."""
    asked = None if lines is None else quantities(lines)
    return act(
        database, order, lambda s, o, by: o.reduce(s, LIFECYCLE, asked, reason=reason, by=by)
    )


def expire(database: Database, order: Order) -> Order:
    """Expire an order, however much time it has left."""
    return act(database, order, lambda s, o, _by: o.expire(s, LIFECYCLE))


def expire_overdue(database: Database) -> int:
    """Expire all overdue orders, and return how many orders expired meanwhile."""
    before = _expiries(database)
    while expire_orders(database, LIFECYCLE, SetAside(_raise)):
        pass
    return _expiries(database) - before


def _expiries(database: Database) -> int:
    query = select(func.count()).where(OrderEvent.action == "expire")
    return database.transact(lambda session: session.scalars(query).one(), write=False)


def _raise(_order: UUID, error: Exception) -> None:
    raise error


def ship(
    database: Database,
    order: Order,
    lines: Lines | None = None,
    *,
    tracking_number: str = "JD0146",
) -> Order:
    """Ship some of an order, or all that is left."""
    asked = None if lines is None else quantities(lines)
    return act(
        database,
        order,
        lambda s, o, by: o.ship(
            s, LIFECYCLE, asked, carrier="DHL", tracking_number=tracking_number, by=by
        ),
    )


def deliver(database: Database, order: Order) -> Order:
    """Deliver an order."""
    return act(database, order, lambda s, o, by: o.deliver(s, LIFECYCLE, by=by))


def take_back(
    database: Database,
    order: Order,
    lines: Lines | None = None,
    *,
    restock: bool = True,
    reason: str | None = None,
) -> Order:
    """Take shipped goods back, all that can be returned if no lines are given."""
    asked = None if lines is None else quantities(lines)
    return act(
        database,
        order,
        lambda s, o, by: o.take_back(s, LIFECYCLE, asked, reason=reason, restock=restock, by=by),
    )


def refund(
    database: Database,
    order: Order,
    amount: int | None = None,
    *,
    currency: str | None = None,
    restock: Lines = (),
    reason: str | None = None,
) -> Order:
    """Give money back, all that is left if no amount is given."""

    def work(session: Session, found: Order, by: Person) -> None:
        money = None
        if amount is not None:
            money = Price(amount=amount, currency=currency or found.currency)
        found.refund(
            session,
            LIFECYCLE,
            money,
            reason=reason,
            restock=quantities(restock),
            by=by,
        )

    return act(database, order, work)
