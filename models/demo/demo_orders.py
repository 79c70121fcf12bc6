"""Demo orders in every state, reached by real actions."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.actor import Actor
from models.demo.demo_accounts import DemoActor, demo_people
from models.demo.demo_catalogue import demo_assortments, demo_product_ids
from models.demo.demo_stories import STORIES, Scene
from models.errors import DomainError
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.orders.order_line import LineQuantity
from models.orders.order_placing import OrderDetails
from models.storage.database import Database

DEMO_ORDERS: Final = 200
"""Number of demo orders."""

_BATCH = 20
_CUSTOMERS = 97
_NUMBER = "demo_order"
"""Metadata key with an order's number, by which a second run recognises it."""
_RESERVATION = timedelta(days=30)
"""Time for which unpaid demo orders remain pending."""

_ADDRESSES = (
    {"line1": "4 rue des Lilas", "city": "Lyon", "postal_code": "69003", "country": "FR"},
    {"line1": "12 Harbour Row", "line2": "Flat 3", "city": "Whitby", "country": "GB"},
    {"line1": "1180 Elm Street", "city": "Omaha", "region": "NE", "country": "US"},
    {"line1": "北山通 2-7", "city": "京都市", "postal_code": "603-0000", "country": "JP"},
    {"line1": "Block 6, Street 14", "city": "Kuwait", "country": "KW"},
)
_NOTES = ("Please ring twice.", "It is a present:\nno invoice in the parcel.", "Thank you!")


def seed_demo_orders(
    database: Database,
    lifecycle: Lifecycle,
    by: Actor,
    *,
    people: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Create the demo orders of the first `people` that do not exist yet; return how many.

    Customers act on their own orders, `by` does everything else, and expiry has no actor. Orders
    whose products are no longer available are skipped. `progress` is called with the number of
    orders done and the total.

    Raises:
        DatabaseUnavailable: the database cannot be reached; orders created so far are kept.
    """
    find = partial(demo_people, numbers=range(min(people, _CUSTOMERS)))
    customers = database.read(find)
    added = 0
    for first in range(0, DEMO_ORDERS, _BATCH):
        numbers = range(first, min(first + _BATCH, DEMO_ORDERS))
        added += database.transact(partial(_seed, numbers, lifecycle, customers, by), write=True)
        if progress is not None:
            progress(numbers.stop, DEMO_ORDERS)
    return added


def _seed(
    numbers: range,
    lifecycle: Lifecycle,
    customers: Sequence[User],
    shop: Actor,
    session: Session,
) -> int:
    label = Order.labels[_NUMBER].as_string()
    theirs = Order.user_id.in_([user.id for user in customers])
    there = set(session.scalars(select(label).where(theirs, label.is_not(None))))
    product_ids = demo_product_ids(session)
    added = 0
    for number in numbers:
        if str(number) not in there:
            # Squares make some people order often, and others never.
            user = customers[number * number % len(customers)]
            lines = _lines(number, product_ids)
            added += _tell(session, lifecycle, shop, user, lines, number)
    return added


def _tell(
    session: Session,
    lifecycle: Lifecycle,
    shop: Actor,
    user: User,
    lines: Sequence[LineQuantity],
    number: int,
) -> bool:
    """Place an order and play its story; return False if the shop could not fulfil it."""
    story = STORIES[number % len(STORIES)].split()
    customer = DemoActor(user.id, is_admin=False)
    try:
        with session.begin_nested():
            placed = Order.place(
                session,
                lines,
                _details(user, number),
                by=customer,
                # An order that is to expire is placed with a reservation that has already ended.
                reservation=timedelta(0) if "expire" in story else _RESERVATION,
            )
            order = Order.lock_visible(session, customer, placed.id)
            Scene(session, lifecycle, shop, customer, order, number).tell(story)
    except DomainError:
        return False
    return True


def _lines(number: int, product_ids: Mapping[int, int]) -> list[LineQuantity]:
    assortments = demo_assortments()
    turn, place = divmod(number, len(assortments))
    offered = assortments[place]
    return [
        LineQuantity(
            # No product has the id 0, which stands for missing products.
            product_id=product_ids.get(offered[(turn + 3 * line) % len(offered)], 0),
            # The first line has at least two units, so that one of them can be shipped alone.
            quantity=(1 if line else 2) + (turn + line) % 3,
        )
        for line in range(1 + number // len(STORIES) % 3)
    ]


def _details(user: User, number: int) -> OrderDetails:
    details = OrderDetails(metadata={_NUMBER: str(number)})
    if number % 4:
        details["shipping_address"] = {"name": user.name, **_ADDRESSES[number % len(_ADDRESSES)]}
    if number % 5 == 0:
        details["note"] = _NOTES[number % len(_NOTES)]
    return details
