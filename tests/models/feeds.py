"""Reading the event feed, and replaying it, for the tests of the models."""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from models.catalogue.product import Product
from models.events.event import Event
from models.events.feed import place_events, read_events
from models.money import Money
from models.orders.order import Order
from models.storage.database import Database


def read_feed(database: Database, *types: str) -> list[Event]:
    """Place all events, and read the feed to its end in short pages."""
    while place_events(database):
        pass
    events: list[Event] = []
    after: UUID | None = None
    while True:
        page = database.read(partial(read_events, types=types or None, after=after, limit=7))
        if page.next_after == after:
            return events
        events += page.items
        after = page.next_after


def types_of(events: Iterable[Event], subject: str) -> list[str]:
    """The types of a subject's events, in the order of the feed."""
    return [event.type for event in events if event.subject == subject]


def money(value: Money) -> dict[str, object]:
    """Money as events have it."""
    return {"amount": value.amount, "currency": value.currency}


def check_replay(database: Database, events: Iterable[Event]) -> None:
    """Replay a feed, and compare every order and product with the tables."""
    orders: dict[str, tuple[int, dict[str, object]]] = {}
    on_hand, reserved, versions = Counter[int](), Counter[int](), Counter[int]()
    for event in events:
        if order := event.data.order:
            assert event.version == orders.get(event.subject, (0, {}))[0] + 1, event.subject
            orders[event.subject] = event.version, dict(order)
        if stock := event.data.stock:
            number = int(str(stock["product_id"]))
            on_hand[number] += int(str(stock["on_hand"]))
            reserved[number] += int(str(stock["reserved"]))
        if event.subject.startswith("products/"):
            number = int(event.subject.removeprefix("products/"))
            assert event.version >= versions[number], event.subject
            versions[number] = event.version
    rows = database.transact(
        lambda session: session.scalars(select(Order).options(selectinload(Order.lines))).all(),
        write=False,
    )
    assert {f"orders/{row.id}" for row in rows} == orders.keys()
    for row in rows:
        version, facts = orders[f"orders/{row.id}"]
        assert version == row.version
        assert facts | {"amount": None} == {
            "id": str(row.id),
            "user_id": row.user_id,
            "status": row.status,
            "total": money(row.total),
            "paid": money(row.paid),
            "refunded": money(row.refunded),
            "unapplied": money(row.unapplied),
            "due": money(row.due),
            "amount": None,
            "lines": [
                {
                    "product_id": line.product_id,
                    "quantity": line.quantity,
                    "shipped": line.shipped,
                    "returned": line.returned,
                }
                for line in row.lines
            ],
        }
    columns = select(Product.id, Product.version, Product.on_hand, Product.reserved)
    for product in database.read(lambda reader: reader.execute(columns).all(), single=True):
        number = product.id
        assert (versions[number], on_hand[number], reserved[number]) == tuple(product[1:])
