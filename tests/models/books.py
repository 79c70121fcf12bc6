"""The books of the shop: recomputed sums, compared with the stored totals."""

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import NamedTuple

from sqlalchemy import inspect, select, text
from sqlalchemy.orm import Session, selectinload

from models.catalogue.product import Product
from models.catalogue.stock_entry import StockEntry
from models.identity.user import User
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_row import ENDED
from models.storage.database import Database

LIVE = frozenset({"pending", "paid", "partially_shipped"})
"""The states in which what has not been shipped is reserved."""


class Books(NamedTuple):
    """All that the shop has written down."""

    products: list[Product]
    entries: list[StockEntry]
    orders: list[Order]
    events: list[OrderEvent]
    erased: set[int]
    """The ids of erased accounts."""


def check_books(database: Database) -> None:
    """Insist that stock, money and timelines are right."""
    books = database.transact(_read, write=False)
    _check_ledger(books)
    _check_reservations(books)
    _check_conservation(books)
    for order in books.orders:
        _check_money(order)
    _check_timelines(books)
    _check_erasure(books)


def _read(session: Session) -> Books:
    if session.get_bind().dialect.name == "postgresql":
        # All of it as of one moment: a server that was killed may have left a commit on its way.
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    orders = select(Order).options(selectinload(Order.lines))
    return Books(
        list(session.scalars(select(Product))),
        list(session.scalars(select(StockEntry))),
        list(session.scalars(orders)),
        list(session.scalars(select(OrderEvent))),
        set(session.scalars(select(User.id).where(User.erased_at.is_not(None)))),
    )


def _check_ledger(books: Books) -> None:
    """Compare each product's numbers with the sums of its entries."""
    on_hand = _sum(books, lambda entry: entry.on_hand)
    reserved = _sum(books, lambda entry: entry.reserved)
    for product in books.products:
        assert (product.on_hand, product.reserved) == (on_hand[product.id], reserved[product.id])
        assert 0 <= product.reserved <= product.on_hand
        assert product.stock == (
            product.on_hand,
            product.reserved,
            product.on_hand - product.reserved,
        )


def _sum(books: Books, number: Callable[[StockEntry], int]) -> dict[int, int]:
    sums: dict[int, int] = defaultdict(int)
    for entry in books.entries:
        sums[entry.product_id] += number(entry)
    return sums


def _check_reservations(books: Books) -> None:
    """What is reserved is what the orders that go on have not been sent yet."""
    promised: dict[int, int] = defaultdict(int)
    for order in books.orders:
        if order.status in LIVE:
            for line in order.lines:
                promised[line.product_id] += line.quantity - line.shipped
    for product in books.products:
        assert product.reserved == promised[product.id]


def _check_conservation(books: Books) -> None:
    """What is on hand was put there, was not shipped, or came back and was restocked."""
    there: dict[int, int] = defaultdict(int)
    for entry in books.entries:
        if entry.kind == "adjustment":
            there[entry.product_id] += entry.on_hand
    for order in books.orders:
        for line in order.lines:
            there[line.product_id] -= line.shipped
    for event in books.events:
        if event.action == "refund" or event.restocked:
            for each in event.lines:
                there[each["product_id"]] += each["quantity"]
    for product in books.products:
        assert product.on_hand == there[product.id]


def _check_money(order: Order) -> None:
    assert order.total_amount == sum(line.unit_amount * line.quantity for line in order.lines)
    balance = order.balance
    assert balance.paid.amount == (
        balance.applied + balance.unapplied.amount + balance.refunded.amount
    )
    assert 0 <= order.refunded_amount <= order.paid_amount - order.bounced_amount
    assert order.paid_amount <= order.total_amount
    assert balance.held >= balance.applied >= 0
    assert {line.currency for line in order.lines} == {order.currency}
    if any(line.shipped for line in order.lines):
        assert order.paid_amount == order.total_amount
    if order.status in {"paid", "partially_shipped", "shipped", "delivered"}:
        assert balance.applied or order.bounced_amount or not order.total_amount
        assert balance.due.amount == order.bounced_amount
    if order.status in {"cancelled", "expired", "refunded"}:
        assert (balance.applied, balance.due.amount) == (0, 0)
    if order.status in {"pending", "paid"}:
        assert bool(balance.due.amount) == (order.status == "pending")
    assert ("refund" in order.ruled_out) == (balance.held == 0)
    is_left = any(line.shipped > line.returned for line in order.lines)
    assert ("return" in order.ruled_out) == (not is_left)
    units = sum(line.quantity for line in order.lines)
    assert units > 0
    assert ("reduce" in order.ruled_out) == (units == 1)
    assert (order.expires_at is not None) == (order.status == "pending")


def _check_timelines(books: Books) -> None:
    """Every version of an order has its event, and the events tell of all money."""
    events: dict[object, list[OrderEvent]] = defaultdict(list)
    for event in sorted(books.events, key=lambda event: event.number):
        events[event.order_id].append(event)
    ordered = {
        (entry.order_id, entry.product_id): entry.reserved
        # A revived order reserves its units again, so the first reservation counts.
        for entry in sorted(books.entries, key=lambda entry: -entry.id)
        if entry.kind == "reservation"
    }
    for order in books.orders:
        told = events[order.id]
        assert [event.number for event in told] == list(range(1, order.version + 1))
        assert told[0].action == "create"
        assert told[-1].status == order.status
        for line in order.lines:
            assert _units(told, {"ship"}, line.product_id) == line.shipped
            assert _units(told, {"return", "refund"}, line.product_id) == line.returned
            cancelled = _units(told, {"reduce"}, line.product_id)
            assert line.quantity + cancelled == ordered[order.id, line.product_id]
        moved = {
            action: sum(event.money or 0 for event in told if event.action == action)
            for action in ("pay", "bounce", "refund")
        }
        # What was received, less what bounced, pays for the order, is unapplied, or was refunded.
        assert moved["pay"] - moved["bounce"] == order.paid.amount
        assert moved["refund"] == order.refunded.amount
        assert (told[-1].unapplied_amount or 0) == order.unapplied.amount


def _units(events: list[OrderEvent], actions: set[str], product_id: int) -> int:
    """Add up the units of a product that some actions moved."""
    lines = [each for event in events if event.action in actions for each in event.lines]
    return sum(each["quantity"] for each in lines if each["product_id"] == product_id)


def _check_erasure(books: Books) -> None:
    """Orders of erased customers have no personal data once they have ended."""
    for order in books.orders:
        if order.user_id in books.erased and order.status in ENDED:
            assert (order.note, order.shipping_address, order.labels) == (None, None, {})
        # Only an order that has ended can have data that a job is to remove.
        assert order.retained_since is None or order.status in ENDED


def everything(
    database: Database,
    *,
    without_tables: Collection[str] = (),
    without_columns: Collection[str] = (),
) -> dict[str, list[str]]:
    """Read every row of every table, to tell whether anything changed, or is left.

    The driver is asked directly, which takes a tenth of the time.
    """

    def read(session: Session) -> dict[str, list[str]]:
        connection = session.connection()
        cursor = connection.connection.cursor()
        rows = {}
        for name in inspect(connection).get_table_names():
            if name not in without_tables:
                cursor.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - a table of ours.
                kept = [
                    place
                    for place, (column, *_) in enumerate(cursor.description or ())
                    if column not in without_columns
                ]
                rows[name] = sorted(
                    repr([row[place] for place in kept]) for row in cursor.fetchall()
                )
        return rows

    return database.transact(read, write=False)
