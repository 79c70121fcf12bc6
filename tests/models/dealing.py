"""What is done to products and orders in the tests, each thing in a transaction of its own."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TypeAlias, Unpack

from sqlalchemy.orm import Session

from api.contract.document import load_document
from api.contract.transitions import compile_lifecycle
from models.database import Database
from models.order import Order, OrderDetails
from models.order_line import LineQuantity
from models.order_payment import record_payment, refund_order
from models.order_placing import place_order
from models.product import Price, Product, ProductChanges
from models.stock import StockEntry
from tests.models.people import Person, make_user, read_page

LIFECYCLE = compile_lifecycle(
    load_document(Path(__file__).parents[2] / "openapi").bundle, "OrderStatus"
)
"""The state machine that the contract declares."""

HALF_AN_HOUR = timedelta(minutes=30)

Lines: TypeAlias = Sequence[tuple[Product, int]]
"""Products, and how many of each."""

_payments = count(1)


def make_admin(database: Database) -> Person:
    """Give the administrator of the shop, who is taken on when the first thing is to be done."""
    page = read_page(database, role="admin", limit=1)
    admin = page.items[0] if page.items else make_user(database, role="admin")
    return Person(admin.id, is_admin=True)


def change_product(
    database: Database, product: Product, **changes: Unpack[ProductChanges]
) -> Product:
    """Change a product in a transaction of its own."""
    admin = make_admin(database)

    def work(session: Session) -> Product:
        found = Product.changeable_by(session, admin, product.id)
        found.change(session, changes)
        return found

    return database.transact(work, write=True)


def archive_product(database: Database, product: Product) -> None:
    """Archive a product in a transaction of its own."""
    admin = make_admin(database)
    database.transact(lambda s: Product.changeable_by(s, admin, product.id).archive(), write=True)


def adjust_stock(database: Database, product: Product, quantity: int) -> StockEntry:
    """Adjust the stock of a product in a transaction of its own."""
    admin = make_admin(database)

    def work(session: Session) -> StockEntry:
        found = Product.changeable_by(session, admin, product.id)
        return found.adjust(session, quantity, reason="counted anew", by=admin)

    return database.transact(work, write=True)


def quantities(lines: Lines) -> list[LineQuantity]:
    """Write lines as they are asked for."""
    return [LineQuantity(product_id=each.id, quantity=quantity) for each, quantity in lines]


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
        placed = place_order(
            session, by=buyer, lines=quantities(lines), details=details, reservation=reservation
        )
        return Order.changeable_by(session, buyer, placed.id)

    return database.transact(work, write=True)


def act(database: Database, order: Order, work: Callable[[Session, Order, Person], None]) -> Order:
    """Do something to an order in a transaction of its own, as the administrator."""
    admin = make_admin(database)

    def transaction(session: Session) -> Order:
        found = Order.changeable_by(session, admin, order.id)
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
    """Record a payment, of all that is due if no amount is given."""
    if reference is None:
        reference = f"payment-{next(_payments)}"

    def work(session: Session, found: Order, by: Person) -> None:
        due = found.total_amount - found.paid_amount
        money = Price(amount=due if amount is None else amount, currency=currency or found.currency)
        record_payment(session, found, LIFECYCLE, money, method=method, reference=reference, by=by)

    return act(database, order, work)


def cancel(database: Database, order: Order) -> Order:
    """Cancel an order."""
    return act(database, order, lambda s, o, by: o.cancel(s, LIFECYCLE, by=by))


def expire(database: Database, order: Order) -> Order:
    """Expire an order, however much time it has left."""
    return act(database, order, lambda s, o, _by: o.expire(s, LIFECYCLE))


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
        refund_order(
            session,
            found,
            LIFECYCLE,
            money,
            reason=reason,
            restock=quantities(restock),
            by=by,
        )

    return act(database, order, work)
